// Everything but rating: consent, the screen check, pauses.
import { Refusal, send } from "./send.js";

const main = document.querySelector("main");
const byId = (id) => document.getElementById(id);

async function step(path, body) {
  try {
    await send(path, body);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
  }
  location.reload(); // the server knows what comes next
}

function onSubmit(form, act) {
  form?.addEventListener("submit", (event) => {
    event.preventDefault();
    form.querySelector("button").disabled = true;
    act();
  });
}

onSubmit(byId("consent"), () => step("/api/consent", {}));
byId("continue")?.addEventListener("click", () => step("/api/pause", { paused: false }));

const form = byId("screen");
if (form) {
  drawWedge(byId("wedge"));
  drawPatches(byId("dark"), 0, 1);
  drawPatches(byId("light"), 255, -1);
  tellSize();
  window.addEventListener("resize", tellSize);
}
onSubmit(form, () =>
  step("/api/session", {
    screen_width: screen.width,
    screen_height: screen.height,
    window_width: window.innerWidth,
    window_height: window.innerHeight,
    pixel_ratio: window.devicePixelRatio,
    colour_depth: screen.colorDepth,
    gamut: ["rec2020", "p3", "srgb"].find((name) => matchMedia(`(color-gamut: ${name})`).matches) ?? "unknown",
    touch: navigator.maxTouchPoints > 0,
    dark_steps: Number(byId("dark_steps").value),
    light_steps: Number(byId("light_steps").value),
  }),
);

// 16 even steps from black to grey, red, green, blue at their fullest
function drawWedge(canvas) {
  const draw = canvas.getContext("2d");
  const width = canvas.width / 16;
  [[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]].forEach((colour, row) => {
    for (let i = 0; i < 16; i += 1) {
      draw.fillStyle = `rgb(${colour.map((part) => part * 17 * i).join(" ")})`;
      draw.fillRect(i * width, row * 32, width, 32);
    }
  });
}

// eight squares 2, 4, ... 16 levels away from black or white
function drawPatches(canvas, ground, sign) {
  const draw = canvas.getContext("2d");
  draw.fillStyle = `rgb(${ground} ${ground} ${ground})`;
  draw.fillRect(0, 0, canvas.width, canvas.height);
  for (let i = 1; i <= 8; i += 1) {
    const level = ground + sign * 2 * i;
    draw.fillStyle = `rgb(${level} ${level} ${level})`;
    draw.fillRect(36 * i - 24, 16, 24, 24);
  }
}

function tellSize() {
  const ratio = window.devicePixelRatio;
  const [width, height] = [window.innerWidth, window.innerHeight].map((side) => Math.round(side * ratio));
  const fits = form.dataset.width * form.dataset.count + 64 <= width && Number(form.dataset.height) + 260 * ratio <= height;
  byId("size").textContent =
    `Your window has ${width} × ${height} pixels; the largest image has ${form.dataset.width} × ${form.dataset.height}. ` +
    (fits ? "All images fit side by side." : "You will see one image at a time, at full size, and flip between them.");
}

if (main.dataset.stage === "break") setTimeout(() => location.reload(), 1000 * (Number(main.dataset.seconds) + 1));
if (main.dataset.stage === "closed") setInterval(resumeWhenOpen, 10000);

async function resumeWhenOpen() {
  const answer = await fetch("/api/state").catch(() => null);
  if (answer?.ok && (await answer.json()).stage !== "closed") location.reload();
}
