// y, n and k press the button that names them. A card is sent once: the next one needs a look before it is decided.
(function () {
  let sent = false;
  document.addEventListener("submit", function (event) {
    if (sent) event.preventDefault();
    sent = true;
  });
  window.addEventListener("pageshow", function () { sent = false; });
  document.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
    if (event.target.closest && event.target.closest("input, select, textarea")) return;
    for (const button of document.querySelectorAll("button[aria-keyshortcuts]")) {
      if (button.getAttribute("aria-keyshortcuts") === event.key.toLowerCase()) button.click();
    }
  });
})();
