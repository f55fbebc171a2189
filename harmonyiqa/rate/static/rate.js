// The rating page: show the images of one presentation, save the answer, go on.
import { Refusal, say, send } from "./send.js";

const GUARD = 350; // ms after images appear in which an answer is taken for the second half of a double click
const byId = (id) => document.getElementById(id);
const pictures = byId("pictures");
const flipBar = byId("flip");
const answers = [...document.querySelectorAll("[data-value]")];

let now; // the server's Situation
let item; // what is on the screen: now.item, or now.previous one step back
let ready = false; // an answer may be given
let shown = 0; // flip mode: which image is seen
let since = 0; // when the images came on the screen, hidden tabs not counted
let hiddenSince = null;
let endsAt = 0;

start();

async function start() {
  const answer = await fetch("/api/state").catch(() => null);
  if (!answer?.ok) return void setTimeout(start, 2000);
  await follow(await answer.json());
}

// go where the server says
async function follow(situation) {
  if (situation.stage !== "rate") return location.reload();
  now = situation;
  endsAt = Date.now() + 1000 * now.seconds_left;
  await show(now.item);
  now.preload.forEach((media) => (new Image().src = `/media/${media}`));
}

async function show(next) {
  item = next;
  ready = false;
  const reviewing = item === now.previous;
  answers.forEach((button) => {
    button.setAttribute("aria-pressed", String(reviewing && Number(button.dataset.value) === item.value));
  });
  document.querySelector("details").open = false;
  tellProgress(reviewing);
  byId("back").disabled = reviewing || !now.previous;
  byId("keep").hidden = !reviewing;
  pictures.classList.add("loading");
  const figures = await load(item.pictures);
  if (item !== next) return;
  shown = 0;
  pictures.replaceChildren(...figures);
  flipBar.replaceChildren(...item.pictures.map(flipButton));
  arrange();
  pictures.scrollTo((pictures.scrollWidth - pictures.clientWidth) / 2, (pictures.scrollHeight - pictures.clientHeight) / 2);
  pictures.classList.remove("loading");
  since = performance.now();
  hiddenSince = document.hidden ? since : null;
  setTimeout(() => {
    if (item === next) ready = true;
  }, GUARD);
}

// figures whose images are decoded, so that all appear at once
async function load(list) {
  for (;;) {
    const figures = list.map(figure);
    try {
      await Promise.all(figures.map((each) => each.querySelector("img").decode()));
      return figures;
    } catch {
      say("The images do not come; trying again.");
      await new Promise((resolve) => setTimeout(resolve, 2000));
      say("");
    }
  }
}

function figure(picture) {
  const image = new Image(picture.width, picture.height);
  image.src = `/media/${picture.media}`;
  image.alt = `${picture.role} image`;
  image.draggable = false;
  const caption = document.createElement("figcaption");
  caption.textContent = picture.role;
  const whole = document.createElement("figure");
  whole.append(image, caption);
  return whole;
}

function flipButton(picture, index) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = picture.role;
  button.addEventListener("click", () => flip(index));
  return button;
}

// one image pixel on one device pixel: side by side if all fit, else one above the other to flip between
function arrange() {
  if (!item || !pictures.children.length) return;
  const ratio = window.devicePixelRatio;
  const widths = item.pictures.map((picture) => picture.width / ratio);
  const height = item.pictures[0].height / ratio;
  [...pictures.querySelectorAll("img")].forEach((image, index) => {
    image.style.width = `${widths[index]}px`;
    image.style.height = `${height}px`;
  });
  const room = document.querySelector("main").getBoundingClientRect();
  const side = widths.reduce((sum, width) => sum + width + 16, 8) <= room.width && height + 44 <= room.height;
  pictures.classList.toggle("side", side);
  pictures.classList.toggle("flip", !side);
  flipBar.hidden = side || item.pictures.length < 2;
  const pans = pictures.scrollWidth > pictures.clientWidth || pictures.scrollHeight > pictures.clientHeight;
  pictures.classList.toggle("pans", !side && pans);
  flip(shown);
}

function flip(index) {
  shown = index % item.pictures.length;
  const side = pictures.classList.contains("side");
  [...pictures.children].forEach((each, i) => each.classList.toggle("shown", side || i === shown));
  [...flipBar.children].forEach((button, i) => button.setAttribute("aria-pressed", String(i === shown)));
}

async function answer(value) {
  if (!ready) return;
  ready = false;
  const seen = (hiddenSince ?? performance.now()) - since;
  const { position, revision } = item;
  try {
    const receipt = await send("/api/vote", { position, revision, value, milliseconds: Math.min(Math.round(seen), 86400000) });
    await follow(receipt.situation);
    if (receipt.repeated && receipt.saved !== value) say("This one was already answered; the first answer stands.");
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    location.reload();
  }
}

function back() {
  if (ready && now.previous && item !== now.previous) show(now.previous);
}

function keep() {
  if (ready && item === now.previous) show(now.item);
}

async function pause() {
  if (!ready) return;
  ready = false;
  pictures.classList.add("loading");
  try {
    await send("/api/pause", { paused: true });
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
  }
  location.reload();
}

function tellProgress(reviewing) {
  const practice = item.training ? "Practice · " : "";
  byId("count").textContent = `${practice}${now.session_done + (reviewing ? 0 : 1)} of ${now.session_total}`;
  byId("progress").max = now.session_total;
  byId("progress").value = now.session_done;
  tellTime();
}

function tellTime() {
  const minutes = Math.ceil((endsAt - Date.now()) / 60000);
  byId("time").textContent = now ? `Session ${now.session} · ${Math.max(minutes, 1)} min` : "";
}

setInterval(tellTime, 10000);
answers.forEach((button) => button.addEventListener("click", () => answer(Number(button.dataset.value))));
byId("back").addEventListener("click", back);
byId("keep").addEventListener("click", keep);
byId("pause").addEventListener("click", pause);
window.addEventListener("resize", arrange);

document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
  const key = event.key.toLowerCase(); // caps lock
  if (answers.some((button) => button.dataset.value === key)) answer(Number(key));
  else if (key === "backspace") back();
  else if (key === "escape") keep();
  else if (key === "f" && pictures.classList.contains("flip")) flip(shown + 1);
  else if (key === "p") pause();
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) hiddenSince = performance.now();
  else if (hiddenSince !== null) {
    since += performance.now() - hiddenSince;
    hiddenSince = null;
  }
});

// a mouse drags to pan, as a finger does anyway; without a drag it is a click, which flips
let drag = null;
pictures.addEventListener("pointerdown", (event) => {
  drag = { x: event.clientX, y: event.clientY, left: pictures.scrollLeft, top: pictures.scrollTop, moved: false };
});
pictures.addEventListener("pointermove", (event) => {
  if (!drag || event.pointerType !== "mouse" || !event.buttons) return;
  const [x, y] = [event.clientX - drag.x, event.clientY - drag.y];
  drag.moved ||= Math.hypot(x, y) > 4;
  if (drag.moved) pictures.scrollTo(drag.left - x, drag.top - y);
});
pictures.addEventListener("click", () => {
  if (!drag?.moved && pictures.classList.contains("flip")) flip(shown + 1);
  drag = null;
});
