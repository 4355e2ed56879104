// Keeps a page up to date while it is open. Without this script the page is what was loaded.
// The server sends the part of the page that changes as HTML that it has made and escaped itself.
"use strict";

const bar = document.querySelector("[data-live]");
const part = document.getElementById("live");
if (bar && part && "EventSource" in window) {
  const status = bar.querySelector("[data-live-status]");
  const pause = bar.querySelector("[data-live-pause]");
  const address = new URL(window.location.href);
  address.searchParams.set("format", "events");
  let source = null;

  // A detail that somebody has opened stays open; what has the focus is not taken away.
  function show(html) {
    if (part.contains(document.activeElement)) return;
    const open = [...part.querySelectorAll("details")].map((one) => one.open);
    part.innerHTML = html;
    part.querySelectorAll("details").forEach((one, place) => { one.open = open[place] || one.open; });
    status.textContent = "Up to date at " + new Date().toISOString().slice(11, 19) + " UTC.";
  }

  function begin() {
    source = new EventSource(address);
    source.onmessage = (event) => show(JSON.parse(event.data));
    source.onopen = () => { status.textContent = "Updates by itself."; };
    source.onerror = () => { status.textContent = "The connection is lost; trying again."; };
  }

  pause.hidden = false;
  pause.addEventListener("click", () => {
    const paused = pause.getAttribute("aria-pressed") === "true";
    pause.setAttribute("aria-pressed", String(!paused));
    pause.textContent = paused ? "Pause updates" : "Go on";
    if (paused) { begin(); } else { source.close(); status.textContent = "Paused."; }
  });
  window.addEventListener("pagehide", () => source && source.close());
  begin();
}
