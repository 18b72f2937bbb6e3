// Live updates: the server says which environments changed, and the regions of this page are read again. Without this
// script every page works by reloading.
"use strict";
(() => {
  const body = document.body;
  const about = (body.dataset.live || "").trim();
  const status = document.getElementById("connection");
  const EVERY_MS = 60000, AT_MOST_EVERY_MS = 2000;
  let readAt = Date.now(), waiting = 0, reading = false, again = false;

  const say = (words) => { if (status && status.textContent !== words) status.textContent = words; };
  const concerns = (names) => about === "*" || names.includes("*") || names.includes(about);
  const isBusy = (region) => region.contains(document.activeElement) && document.activeElement.matches("input, textarea, select");

  function keyOf(element) {
    return element && (element.id ? "#" + CSS.escape(element.id) : element.getAttribute && element.getAttribute("href")
      ? `a[href="${CSS.escape(element.getAttribute("href"))}"]` : "");
  }

  function replace(region, fresh) {
    if (region.innerHTML === fresh.innerHTML || isBusy(region)) return;
    const key = region.contains(document.activeElement) ? keyOf(document.activeElement) : "";
    const open = [...region.querySelectorAll("details[open][id]")].map((element) => element.id);
    region.replaceChildren(...fresh.childNodes);
    for (const id of open) { const element = document.getElementById(id); if (element) element.open = true; }
    if (key) { const element = region.querySelector(key); if (element) element.focus({ preventScroll: true }); }
  }

  async function read() {
    waiting = 0;
    if (reading) { again = true; return; }
    reading = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "error", cache: "no-store" });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      let regions = 0;
      for (const region of document.querySelectorAll("[data-region]")) {
        const fresh = page.getElementById(region.id);
        if (fresh) { replace(region, fresh); regions += 1; }
      }
      readAt = Date.now();
      say(answer.ok && regions ? "" : "What is shown may be old: reload this page.");
    } catch { say("The server does not answer. What is shown is as it was last read."); }
    reading = false;
    if (again) { again = false; soon(); }
  }

  // The value of a plot below the pointer, or chosen by the arrow keys. Without script its description names the extremes.
  function point(figure, place) {
    const labels = JSON.parse(figure.dataset.labels), values = JSON.parse(figure.dataset.values);
    place = Math.max(0, Math.min(labels.length - 1, place));
    figure.dataset.place = place;
    let tip = figure.querySelector(".tip");
    if (!tip) { tip = document.createElement("output"); tip.className = "tip"; figure.append(tip); }
    const value = values[place];
    tip.textContent = `${labels[place]}  ${value === null ? "not measured" : value.toPrecision(3) * 1 + " " + figure.dataset.unit}`;
    const svg = figure.querySelector("svg"), x = 46 + (360 - 56) * place / Math.max(1, labels.length - 1);
    let cursor = svg.querySelector(".cursor");
    if (!cursor) { cursor = document.createElementNS(svg.namespaceURI, "line"); cursor.setAttribute("class", "cursor"); svg.append(cursor); }
    for (const [name, number] of [["x1", x], ["x2", x], ["y1", 10], ["y2", 146]]) cursor.setAttribute(name, number);
  }
  document.addEventListener("pointermove", (event) => {
    const figure = event.target.closest && event.target.closest("[data-plot]");
    if (!figure) return;
    const box = figure.querySelector("svg").getBoundingClientRect();
    const share = ((event.clientX - box.left) / box.width * 360 - 46) / (360 - 56);
    point(figure, Math.round(share * (JSON.parse(figure.dataset.labels).length - 1)));
  });
  document.addEventListener("keydown", (event) => {
    const figure = document.activeElement, step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !figure.matches("[data-plot]")) return;
    event.preventDefault();
    point(figure, "place" in figure.dataset ? Number(figure.dataset.place) + step : JSON.parse(figure.dataset.labels).length - 1);
  });

  function soon() {
    if (waiting || document.hidden) return;
    waiting = setTimeout(read, Math.max(0, readAt + AT_MOST_EVERY_MS - Date.now()));
  }

  // The lines of logs as they are written. The server begins anew at each connection, which ends now and then.
  const followed = document.querySelector("[data-follow]"), MOST_LINES = 2000, AT_END_PIXELS = 40;
  function append(lines) {
    const isAtEnd = followed.scrollHeight - followed.scrollTop - followed.clientHeight < AT_END_PIXELS;
    for (const line of lines) {
      const element = document.createElement("span");
      element.textContent = line + "\n";
      followed.append(element);
    }
    while (followed.childElementCount > MOST_LINES) followed.firstElementChild.remove();
    if (isAtEnd) followed.scrollTop = followed.scrollHeight;
  }
  if (followed) {
    const source = new EventSource(followed.dataset.follow);
    let begins = false;
    followed.scrollTop = followed.scrollHeight;
    source.addEventListener("begin", () => { begins = true; say(""); });
    source.addEventListener("lines", (event) => {
      if (begins) { followed.replaceChildren(); begins = false; }
      append(JSON.parse(event.data));
    });
    source.addEventListener("remark", (event) => say(JSON.parse(event.data)));
    source.addEventListener("error", () => say(source.readyState === EventSource.CLOSED
      ? "The logs cannot be followed now: reload this page." : "The connection to the server is lost; it is tried again."));
    addEventListener("pagehide", () => source.close());
  }

  if (about && document.querySelector("[data-region]")) {
    const source = new EventSource(body.dataset.base + "/live");
    source.addEventListener("change", (event) => { if (concerns(JSON.parse(event.data))) soon(); });
    source.addEventListener("error", () => say("The connection to the server is lost; it is tried again."));
    // What happened between the reading of this page and the connection is told to no page.
    source.addEventListener("open", () => { if (about !== "*" || (status && status.textContent)) soon(); });
    addEventListener("pagehide", () => source.close());
    // Ages grow although nothing changes.
    setInterval(() => { if (Date.now() - readAt >= EVERY_MS) soon(); }, 5000);
    document.addEventListener("visibilitychange", () => { if (!document.hidden && Date.now() - readAt > AT_MOST_EVERY_MS) soon(); });
  }
})();
