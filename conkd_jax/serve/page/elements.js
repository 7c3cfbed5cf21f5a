"use strict";
// Building blocks of the page. Whatever a person, a server or a model says becomes a text node:
// no string is ever read as HTML, and the page's policy would refuse it.

const byId = (id) => document.getElementById(id);

// An element with attributes and children; strings are texts, and what is null or false is left
// out. An attribute "onclick" is a function that is called.
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

// A text of unknown direction, which can't turn the words around it.
const said = (text, attributes) => make("bdi", attributes, text);

const percent = (share) =>
  share >= 0.0995 ? `${Math.round(share * 100)}\u00a0%`
    : share >= 0.0005 ? `${(share * 100).toFixed(1)}\u00a0%` : "<\u00a00.1\u00a0%";

const seconds = (time) =>
  time < 0.9995 ? `${Math.max(1, Math.round(time * 1000))}\u00a0ms` : `${time.toFixed(1)}\u00a0s`;

const counted = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;

// A bar that fills a share of its line.
function bar(share, name = "bar") {
  const element = make("span", { class: name, "aria-hidden": "true" });
  element.style.setProperty("--share", String(Math.min(1, Math.max(0, share))));
  return element;
}

// Reads a sentence to people who don't see the page; the same sentence twice is read twice.
function tell(text) {
  const news = byId("news");
  news.textContent = news.textContent === text ? `${text}\u00a0` : text;
}
