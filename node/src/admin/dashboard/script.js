// Looks at the page again every two seconds, and puts what has changed in its place: what is focused, typed, folded or scrolled stays.
// Without it, or while it is paused, a reload does the same.
"use strict";

(() => {
  const EVERY_MS = 2000;
  const PATIENCE_MS = 15000;
  let paused = false;
  let timer = 0;

  const status = document.createElement("span");
  status.setAttribute("role", "status");
  const button = document.createElement("button");
  button.type = "button";
  const box = document.createElement("div");
  box.className = "live";
  box.append(status, button);
  document.querySelector("header").append(box);

  const say = () => {
    button.textContent = paused ? "Go on" : "Pause";
    if (paused) tell("Paused", false);
  };
  // A status that says the same again is not read aloud again.
  const tell = (text, lost) => {
    if (status.textContent !== text) status.textContent = text;
    status.className = lost ? "lost" : "";
  };

  // Makes `old` like `fresh`, and keeps every node that can stay.
  const morph = (old, fresh) => {
    for (const { name } of [...old.attributes]) {
      const keeps = name === "open" && old.nodeName === "DETAILS";
      if (!fresh.hasAttribute(name) && !keeps) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      const keeps = name === "open" && old.nodeName === "DETAILS";
      if (old.getAttribute(name) !== value && !keeps) old.setAttribute(name, value);
    }
    const [is, wanted] = [[...old.childNodes], [...fresh.childNodes]];
    wanted.forEach((node, at) => {
      const here = is[at];
      if (!here) old.append(document.importNode(node, true));
      else if (here.nodeName !== node.nodeName) here.replaceWith(document.importNode(node, true));
      else if (node.nodeType === Node.TEXT_NODE) {
        if (here.data !== node.data) here.data = node.data;
      } else if (node.nodeType === Node.ELEMENT_NODE) morph(here, node);
    });
    is.slice(wanted.length).forEach((node) => node.remove());
  };

  const look = async () => {
    try {
      const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (paused) return;
      for (const part of ["main", "footer"]) morph(document.querySelector(part), fresh.querySelector(part));
      document.title = fresh.title;
      tell("Live", false);
    } catch {
      tell("The node does not answer", true);
    }
  };

  const later = () => {
    clearTimeout(timer);
    if (!paused && !document.hidden) timer = setTimeout(() => look().finally(later), EVERY_MS);
  };

  button.addEventListener("click", () => {
    paused = !paused;
    say();
    if (!paused) look().finally(later);
  });
  document.addEventListener("visibilitychange", () => (document.hidden || paused ? later() : look().finally(later)));
  say();
  tell("Live", false);
  later();
})();
