// Keeps the page of a run up to date while the run goes on: asks every few seconds how far it is, and puts in what is new. What did not
// change stays as it is, with its plots, opened details and scrolled tables.
(function () {
  const EVERY = 3000, SLOWEST = 30000, LONGEST = 20000;
  const place = document.getElementById("run");
  if (!place) return;
  const page = location.pathname;
  let digest = place.dataset.digest, over = place.dataset.over === "true", wait = EVERY, timer = 0;
  let finished = place.dataset.finished.split("|").filter(Boolean);

  // As they came from the server, before anything was drawn into them.
  const sources = new Map(Array.from(place.children, function (part) { return [part.id, part.outerHTML]; }));

  function nameOf(details) {
    const part = details.closest(".part"), block = details.closest("figure, .checks, .examples");
    return [part && part.querySelector("h3"), block && block.querySelector("h4"), details.querySelector("summary")]
      .map(function (heading) { return heading ? heading.textContent : ""; }).join("/");
  }
  function change(old, fresh) {
    const open = new Set([old, ...old.querySelectorAll("details")].filter(function (one) { return one.open; }).map(nameOf));
    const focused = old.contains(document.activeElement) && document.activeElement.closest("details");
    const name = focused && nameOf(focused);
    old.querySelectorAll(".plot").forEach(function (plot) { Plotly.purge(plot); });
    old.replaceWith(fresh);
    [fresh, ...fresh.querySelectorAll("details")].filter(function (one) { return one.matches("details"); }).forEach(function (details) {
      if (open.has(nameOf(details))) details.open = true;
      if (focused && name === nameOf(details)) details.querySelector("summary").focus({ preventScroll: true });
    });
  }
  function put(html) {
    const parts = Array.from(new DOMParser().parseFromString(html, "text/html").body.children);
    const seen = Array.from(place.children).find(function (part) { return part.getBoundingClientRect().bottom > 0; });
    const top = seen ? seen.getBoundingClientRect().top : 0;
    let before = null;
    for (const part of parts) {
      const source = part.outerHTML, old = document.getElementById(part.id);
      if (!old) place.insertBefore(part, before ? before.nextElementSibling : place.firstElementChild);
      else if (sources.get(part.id) !== source) change(old, part);
      sources.set(part.id, source);
      before = document.getElementById(part.id);
    }
    for (const old of Array.from(place.children)) if (!parts.some(function (part) { return part.id === old.id; })) old.remove();
    document.dispatchEvent(new Event("figures"));
    const now = seen && document.getElementById(seen.id);
    if (now) window.scrollBy({ top: now.getBoundingClientRect().top - top, behavior: "instant" });
  }
  function say(state) {
    const news = state.finished.filter(function (name) { return !finished.includes(name); });
    finished = state.finished;
    const text = [news.length ? "Finished: " + news.join(", ") + "." : "", state.over ? "The run is over." : ""].filter(Boolean);
    if (text.length) document.getElementById("said").textContent = text.join(" ");
  }
  async function get(address) {
    // An answer that never comes must not be waited for: the next question may get one.
    const answer = await fetch(address, { credentials: "same-origin", cache: "no-store", signal: AbortSignal.timeout(LONGEST) });
    if (!answer.ok) throw new Error(address + ": " + answer.status);
    return answer;
  }
  async function ask() {
    const state = await (await get(page + "/state")).json();
    if (state.begun && place.dataset.begun === "false") return location.reload();
    if (state.digest !== digest) {
      put(await (await get(page + "?part=main")).text());
      digest = state.digest;
      say(state);
    }
    over = state.over;
  }
  function next() {
    clearTimeout(timer);
    if (!over && !document.hidden) timer = setTimeout(turn, wait);
  }
  function turn() {
    ask().then(function () { wait = EVERY; }, function (error) {
      wait = Math.min(2 * wait, SLOWEST);
      console.warn(error);
    }).then(next);
  }
  document.addEventListener("visibilitychange", function () {
    clearTimeout(timer);
    if (!over && !document.hidden) turn();
  });
  next();
})();
