// Draws each figure from the JSON beside it. A text value that begins with "--" is the name of a CSS variable: its value is put in, and
// put in again when the reader's screen changes between light and dark. The event "figures" says that the page has got others.
(function () {
  function resolve(value, style) {
    if (typeof value === "string") return value.startsWith("--") ? style.getPropertyValue(value).trim() : value;
    if (Array.isArray(value)) return value.map(function (item) { return resolve(item, style); });
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(function (entry) { return [entry[0], resolve(entry[1], style)]; }));
  }
  function draw() {
    const style = getComputedStyle(document.documentElement);
    document.querySelectorAll(".plot").forEach(function (place) {
      const figure = resolve(JSON.parse(document.getElementById(place.dataset.figure).textContent), style);
      figure.layout.font.family = getComputedStyle(document.body).fontFamily;
      Plotly.react(place, figure.data, figure.layout, { displayModeBar: false, responsive: true });
    });
  }
  draw();
  document.addEventListener("figures", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
