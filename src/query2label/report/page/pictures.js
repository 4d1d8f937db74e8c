// Pictures of images, with where the model looked for a label laid over them.
function pictureOf(page, image, label) {
  const picture = page.content.pictures[image];
  if (!picture) return make("div", { class: "no-picture" }, make("span", { text: "no picture in this page" }));
  const inside = make("div", { class: "photo" },
    make("img", { src: picture.uri, width: picture.width, height: picture.height, alt: "", loading: "lazy", decoding: "async" }));
  const maps = picture.maps[page.current], cells = maps.by_label && maps.by_label[page.content.labels[label]];
  if (cells && page.showMaps) {
    inside.classList.add("looked");
    inside.append(heatOf(page, bytesOf(cells), maps.width, maps.height));
  }
  return make("div", { class: "picture" }, inside);
}

// The map in its own few pixels; the browser enlarges them smoothly.
function heatOf(page, cells, width, height) {
  const canvas = make("canvas", { width, height, "aria-hidden": "true" }), context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  cells.forEach((cell, i) => {
    const colour = parseInt(page.content.palette[cell].slice(1), 16);
    pixels.data.set([colour >> 16, (colour >> 8) & 255, colour & 255, Math.round(255 * 0.72 * Math.pow(cell / 255, 0.75))], 4 * i);
  });
  context.putImageData(pixels, 0, 0);
  return canvas;
}

function names(page, labels, marked, kind) {
  const list = make("ul", { class: "names" });
  for (const label of labels.slice(0, 8)) {
    list.append(make("li", { class: marked(label) ? kind : null, text: page.content.labels[label] }));
  }
  if (labels.length > 8) list.append(make("li", { text: `and ${labels.length - 8} more` }));
  if (!labels.length) list.append(make("li", { class: "none", text: "none" }));
  return list;
}

// A picture with what is to be said about one label of it, and what it shows and what was predicted.
function card(page, image, label, heading) {
  const decisions = page.decisions(), { given, predicted, unknown } = decisions.labelsOf(image);
  return make("article", { class: "card" },
    pictureOf(page, image, label),
    make("p", { class: "card-heading" }, make("strong", { text: page.content.labels[label] }), " ",
      make("span", { class: "number", text: decisions.score(label, image).toFixed(2) }), " ", make("span", { class: "soft", text: heading })),
    make("dl", {},
      make("dt", { text: "shows" }), make("dd", {}, names(page, given, (k) => !predicted.includes(k), "missed")),
      make("dt", { text: "predicted" }), make("dd", {}, names(page, predicted, (k) => !given.includes(k) && !unknown.has(k), "wrong"))),
    make("p", { class: "file", title: page.content.images[image], text: page.content.images[image] }));
}

// Cards, a page of them at a time.
function gallery(count, cardAt, size = 12) {
  const grid = make("div", { class: "cards" });
  const more = make("button", { type: "button", class: "quiet" });
  const box = make("div", { class: "gallery" }, grid, more);
  let next = 0;
  const add = () => {
    const end = Math.min(count, next + size);
    for (; next < end; next++) grid.append(cardAt(next));
    more.hidden = next >= count;
    more.textContent = `Show ${Math.min(size, count - next)} more of ${whole(count - next)}`;
  };
  more.addEventListener("click", add);
  add();
  return box;
}
