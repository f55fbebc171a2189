// The organizer's page: fresh figures every 15 seconds, and the pause button.
import { Refusal, say, send } from "./send.js";

const pause = document.getElementById("pause");
const live = () => document.getElementById("live");
const closed = () => live().dataset.closed === "true";

function tell() {
  pause.textContent = closed() ? "Open the study" : "Pause the study";
}

async function refresh() {
  const answer = await fetch("/admin").catch(() => null);
  if (!answer?.ok) return say("No answer from the server; the figures are old.");
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  live().replaceWith(page.getElementById("live"));
  say("");
  tell();
}

pause.addEventListener("click", async () => {
  try {
    await send("/admin/api/pause", { paused: !closed() });
    await refresh();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    location.reload();
  }
});
tell();
setInterval(refresh, 15000);
