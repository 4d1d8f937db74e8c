// A photo from the camera: by the phone's own camera where there is one, else in a dialog.
const dialog = document.getElementById("camera-dialog");
const video = document.getElementById("video");

/** Calls `take` with each photo; `refuse` with a sentence where there is no camera to use. */
export function setUpCamera(take, refuse) {
  document.getElementById("camera").addEventListener("click", async () => {
    if (matchMedia("(pointer: coarse)").matches || !navigator.mediaDevices) {
      document.getElementById("snapshot").click();
      return;
    }
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1920 } } });
    } catch {
      refuse("There is no camera that this page may use.");
      return;
    }
    dialog.showModal();
    await video.play();
  });
  document.getElementById("shoot").addEventListener("click", async () => {
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    canvas.getContext("2d").drawImage(video, 0, 0);
    const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 });
    take(new File([blob], "camera.jpg", { type: "image/jpeg" }));
    dialog.close();
  });
  document.getElementById("camera-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    video.srcObject?.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
  });
}
