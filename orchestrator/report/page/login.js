// The token goes in a request's body: an address is kept in histories and logs. What stands behind # is sent to nobody.
const token = document.getElementById("token"), said = document.getElementById("said");

async function enter() {
  said.textContent = "";
  const answer = await fetch("/login", { method: "POST", body: token.value, headers: { "Content-Type": "text/plain" } });
  if (answer.ok) location.replace("/");
  else said.textContent = answer.status === 401 ? "That is not the token." : `The server answered ${answer.status}.`;
}

document.getElementById("login").addEventListener("submit", (event) => {
  event.preventDefault();
  enter().catch(() => { said.textContent = "The server does not answer."; });
});

if (location.hash.length > 1) {
  token.value = decodeURIComponent(location.hash.slice(1));
  history.replaceState(null, "", "/");
  enter().catch(() => { said.textContent = "The server does not answer."; });
}
