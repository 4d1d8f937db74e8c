// A map of attention over the photo: dark where the model looked little, glowing where it looked much.
const STOPS = [
  [0, 0, 4], [31, 12, 72], [85, 15, 109], [136, 34, 106], [188, 55, 84], [227, 89, 51], [249, 142, 9], [249, 203, 53], [252, 255, 164],
];
const SIDE = 480;

/** Draws the grey PNG `base64` on the canvas, in colours, at the proportions of the photo. */
export async function drawHeat(canvas, base64, photo) {
  const map = new Image();
  map.src = `data:image/png;base64,${base64}`;
  await map.decode();
  const scale = SIDE / Math.max(photo.width, photo.height);
  canvas.width = Math.max(1, Math.round(photo.width * scale));
  canvas.height = Math.max(1, Math.round(photo.height * scale));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(map, 0, 0, canvas.width, canvas.height);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < pixels.data.length; at += 4) {
    const value = (pixels.data[at] / 255) ** 1.4;
    pixels.data.set(colour(value), at);
    pixels.data[at + 3] = 255 * (0.58 - 0.16 * value);
  }
  context.putImageData(pixels, 0, 0);
}

function colour(value) {
  const place = value * (STOPS.length - 1);
  const low = Math.min(Math.floor(place), STOPS.length - 2);
  return STOPS[low].map((channel, index) => channel + (STOPS[low + 1][index] - channel) * (place - low));
}
