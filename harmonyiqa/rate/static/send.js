// Sending what changes something: again and again until the server says that it is saved, or refuses.

const token = document.querySelector('meta[name="form-token"]').content;
const notice = document.getElementById("notice");
const PASSING = [429, 500, 502, 503, 504];
let unsent = 0;

export class Refusal extends Error {}

export function say(text) {
  notice.textContent = text;
}

export async function send(path, body) {
  unsent += 1;
  try {
    for (let wait = 500; ; wait = Math.min(2 * wait, 8000)) {
      const answer = await post(path, body);
      if (answer?.ok) {
        say("");
        return await answer.json();
      }
      if (answer && !PASSING.includes(answer.status)) throw new Refusal(String(answer.status));
      say("No connection. Your answer is kept, and sent again and again.");
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  } finally {
    unsent -= 1;
  }
}

// the answer, or null if none came
async function post(path, body) {
  try {
    return await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Form-Token": token },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(15000),
    });
  } catch {
    return null;
  }
}

window.addEventListener("beforeunload", (event) => {
  if (unsent) event.preventDefault();
});
// a page that the back button brings out of memory shows an old state
window.addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});
