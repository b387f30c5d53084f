// What the System page does beside what its links and forms do without scripts:
// dialogs in place of pages, lists that change in place, and last uses that are
// kept up to date. All texts and all HTML come from the server.
(() => {
  "use strict";
  const base = document.querySelector(".brand").getAttribute("href");
  const dialog = document.getElementById("dialog");
  const banner = document.getElementById("banner");
  const text = document.body.dataset;
  const searchPause = 300; // milliseconds
  const refreshInterval = 5000; // milliseconds
  let opener = null; // has the focus when the dialog is closed
  let dirty = false; // the list has changed under an open dialog

  document.documentElement.classList.add("js");

  const say = (message) => {
    if (banner.textContent !== message) banner.textContent = message;
    banner.hidden = !message;
  };

  const parse = (html) => new DOMParser().parseFromString(html, "text/html").body;

  // ask fetches a fragment. What cannot be had is told in the banner, and is null.
  async function ask(url, fragment, options = {}) {
    let response;
    try {
      response = await fetch(url, {
        ...options, cache: "no-store", credentials: "same-origin",
        headers: { "X-Fragment": fragment, Accept: "text/html" },
      });
    } catch {
      say(navigator.onLine ? text.unavailable : text.offline);
      return null;
    }
    if (response.redirected || !response.headers.get("Content-Type")?.startsWith("text/html")) {
      say(text.failed);
      return null;
    }
    return response;
  }

  // blocked shows in place of the page why there is none any more: the session is
  // over, or a permission is gone.
  async function blocked(response) {
    if (response.status !== 401 && response.status !== 403) return false;
    const body = parse(await response.text());
    if (dialog.open) close();
    document.getElementById("main").replaceChildren(...body.childNodes);
    document.querySelector("[data-leave]")?.focus();
    say("");
    return true;
  }

  const visible = () => document.visibilityState === "visible";

  // Lists.

  // What was asked for last counts, in whatever order the answers come.
  const asked = { keys: 0, audit: 0 };

  async function load(card, url, show) {
    const old = document.getElementById(card);
    if (!old || (!show && old.hasAttribute("aria-busy"))) return false;
    if (show) {
      asked[card]++;
      old.setAttribute("aria-busy", "true");
    }
    const mine = asked[card];
    const response = await ask(url, card);
    const now = document.getElementById(card);
    if (!now || mine !== asked[card]) return false;
    now.removeAttribute("aria-busy");
    if (!response) return false;
    if (response.status >= 500) {
      say(text.unavailable);
      return false;
    }
    if (await blocked(response)) return false;
    const fresh = parse(await response.text()).firstElementChild;
    if (!fresh || fresh.id !== card) return false;
    say("");
    return { now, fresh };
  }

  // show replaces a card, and leaves the focus where it was.
  async function show(card, url) {
    const loaded = await load(card, url, true);
    if (!loaded) return false;
    const { now, fresh } = loaded;
    const active = now.contains(document.activeElement) ? document.activeElement : null;
    const search = now.querySelector("#search");
    const kept = fresh.querySelector("#search");
    if (search && kept) {
      // The field stays: somebody may be typing in it.
      now.querySelectorAll(".filter input[type=hidden]").forEach((field) => field.remove());
      now.querySelector(".filter").prepend(...fresh.querySelectorAll(".filter input[type=hidden]"));
      fresh.querySelector(".filter").replaceWith(now.querySelector(".filter"));
    }
    now.replaceWith(fresh);
    if (active) (active.isConnected ? active : twin(active, fresh)).focus({ preventScroll: true });
    return true;
  }

  // twin is what has taken the place of something, or else the title of its card.
  function twin(old, fresh) {
    const those = [...fresh.querySelectorAll(old.tagName)];
    const same = (...names) => those.find((e) => names.every((name) => e.getAttribute(name) === old.getAttribute(name)));
    return (old.id && document.getElementById(old.id)) || same("href", "data-copy", "aria-label") ||
      those.find((e) => e.textContent && e.textContent === old.textContent && !old.ariaLabel) || fresh.querySelector("h2");
  }

  // What each card looks at is in the URL; a link of one card knows nothing of what
  // the other has become since.
  const parameters = { keys: ["sort", "q", "unused", "expiry", "page", "after", "before"], audit: ["activity", "event", "older"] };

  async function go(card, url, push) {
    const query = new URLSearchParams(location.search);
    const wanted = new URL(url, location.href).searchParams;
    for (const name of parameters[card]) {
      if (wanted.get(name)) query.set(name, wanted.get(name));
      else query.delete(name);
    }
    const merged = base + (query.size ? "?" + query : "");
    if (await show(card, merged)) history[push ? "pushState" : "replaceState"](null, "", merged);
  }

  // refresh brings the last uses up to date, and the whole list if others have
  // changed it and nobody is at work in it.
  async function refresh() {
    if (!visible() || dialog.open) return;
    const loaded = await load("keys", location.href, false);
    if (!loaded) return;
    const { now, fresh } = loaded;
    const rows = (card) => [...card.querySelectorAll("tr[data-id]")];
    const ids = (card) => rows(card).map((row) => row.dataset.id).join();
    if (ids(now) === ids(fresh)) {
      const uses = new Map(rows(fresh).map((row) => [row.dataset.id, row.querySelector("[data-used]")]));
      for (const row of rows(now)) {
        const [was, is] = [row.querySelector("[data-used]"), uses.get(row.dataset.id)];
        if (was.innerHTML !== is.innerHTML) was.replaceChildren(...is.childNodes);
      }
      const [was, is] = [now.querySelector("#count"), fresh.querySelector("#count")];
      if (was && is && was.textContent !== is.textContent) was.textContent = is.textContent;
    } else if (!now.contains(document.activeElement)) {
      now.replaceWith(fresh);
    }
  }

  async function refreshAll() {
    dirty = false;
    await show("keys", location.href);
    await show("audit", location.href);
  }

  const filterURL = (form) => {
    const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
    return base + (query.size ? "?" + query : "");
  };

  // Dialogs.

  const wipe = () => dialog.replaceChildren();

  function close() {
    wipe();
    dialog.close();
    const back = opener?.isConnected ? opener : document.getElementById("keys-title");
    opener = null;
    back?.focus();
    if (dirty) refreshAll();
  }

  function fill(nodes) {
    dialog.replaceChildren(...nodes);
    dialog.toggleAttribute("data-hold", Boolean(dialog.querySelector("[data-hold]")));
    // A key that was not saved is not to be lost by a key press.
    dialog.setAttribute("closedby", dialog.hasAttribute("data-hold") ? "none" : "closerequest");
    if (!dialog.open) dialog.showModal();
    (dialog.querySelector("[aria-invalid]") ?? dialog.querySelector("[autofocus]") ?? dialog.querySelector("input, button, a"))?.focus();
  }

  async function open(link) {
    const response = await ask(link.href, "dialog");
    if (!response || (await blocked(response))) return;
    if (response.status >= 500) say(text.unavailable);
    else {
      opener = link;
      fill([...parse(await response.text()).childNodes]);
    }
  }

  // submit sends a form and shows the answer in its place. The answer to a
  // revocation comes in lines, each of which replaces the one before.
  async function submit(form, submitter) {
    const buttons = form.querySelectorAll("button, a.button");
    submitter.disabled = true;
    form.setAttribute("aria-busy", "true");
    if (form.dataset.progress ?? form.dataset.busy) submitter.textContent = form.dataset.progress ?? form.dataset.busy;
    buttons.forEach((b) => b.setAttribute("aria-disabled", "true"));
    const response = await ask(form.getAttribute("action"), "dialog", {
      method: "POST", body: new URLSearchParams(new FormData(form)),
    });
    submitter.disabled = false;
    form.removeAttribute("aria-busy");
    buttons.forEach((b) => b.removeAttribute("aria-disabled"));
    if (!response) {
      dirty = true;
      close();
      return;
    }
    if (response.status !== 403 && (await blocked(response))) return;
    dirty = true;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let received = "";
    const lines = form.hasAttribute("data-progress");
    for (;;) {
      const { value, done } = await reader.read().catch(() => ({ done: true }));
      if (value) received += value;
      const end = lines && response.ok ? received.lastIndexOf("\n") : done ? received.length : -1;
      if (end > 0) {
        const line = received.slice(0, end).split("\n").pop();
        fill([...parse(lines && response.ok ? line : received).childNodes]);
        received = received.slice(end + 1);
      }
      if (done) break;
    }
  }

  async function copy(button) {
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent);
    } catch {
      // Without TLS there is no clipboard to write to: select it, to be copied.
      getSelection().selectAllChildren(source);
      say(text.uncopied);
      return;
    }
    const label = button.querySelector("svg") ? null : button.textContent;
    if (label) button.textContent = text.copied;
    button.setAttribute("data-copied", "");
    source.setAttribute("data-safe", "");
    announce(text.copied);
    setTimeout(() => {
      if (label) button.textContent = label;
      button.removeAttribute("data-copied");
    }, 2000);
  }

  // announce tells those who listen, and those who look, for a moment.
  let announced;
  function announce(message) {
    clearTimeout(announced);
    say(message);
    announced = setTimeout(() => banner.textContent === message && say(""), 2000);
  }

  // suggest adds a permission to those that are typed, or takes it away.
  function suggest(button) {
    const field = document.querySelector("[data-permissions]");
    const typed = field.value.split(/[\s,]+/).filter(Boolean);
    const at = typed.indexOf(button.dataset.suggest);
    if (at < 0) typed.push(button.dataset.suggest);
    else typed.splice(at, 1);
    field.value = typed.length ? typed.join(" ") + " " : "";
    check(field);
  }

  // check marks what is typed as soon as it cannot become a permission.
  function check(field) {
    const typed = field.value.split(/[\s,]+/).filter(Boolean);
    field.classList.toggle("wrong", typed.some((p) => !/^[a-z0-9-]*(:[a-z0-9-]*)?$/.test(p)));
    document.querySelectorAll("[data-suggest]").forEach((b) => {
      b.setAttribute("aria-pressed", String(typed.includes(b.dataset.suggest)));
      const last = field.value.match(/[^\s,]*$/)[0];
      b.parentElement.hidden = Boolean(last) && !typed.includes(b.dataset.suggest) && !b.dataset.suggest.includes(last);
    });
  }

  // Events.

  const plain = (event) => event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;

  document.addEventListener("click", (event) => {
    const target = event.target.closest("a, button");
    if (!target || !plain(event)) return;
    const { dataset } = target;
    if (target.getAttribute("aria-disabled") === "true") event.preventDefault();
    else if ("close" in dataset && dialog.contains(target)) {
      event.preventDefault();
      close();
    } else if ("dialog" in dataset && target.href) {
      event.preventDefault();
      open(target);
    } else if ("list" in dataset) {
      event.preventDefault();
      if ("reset" in dataset) document.querySelectorAll("#keys .filter").forEach((f) => {
        f.querySelector("#search").value = "";
        f.querySelector("[name=unused]").checked = false;
        f.querySelector("[name=expiry]").value = "";
      });
      go("keys", target.getAttribute("href"), true);
    } else if ("activity" in dataset) {
      event.preventDefault();
      go("audit", target.getAttribute("href"), true).then(() => {
        const title = document.getElementById("audit-title");
        title?.scrollIntoView();
        title?.focus();
      });
    } else if ("copy" in dataset) copy(target);
    else if ("suggest" in dataset) suggest(target);
  });

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if ("dialog" in form.dataset && dialog.contains(form)) {
      event.preventDefault();
      submit(form, event.submitter ?? form.querySelector("button:not([type=button])"));
    } else if (form.matches(".filter")) {
      event.preventDefault();
      filter(form);
    }
  });

  let typing;
  function filter(form) {
    clearTimeout(typing);
    if (!form.checkValidity()) return say(text.secret);
    say("");
    go("audit" in form.dataset ? "audit" : "keys", filterURL(form), false);
  }

  document.addEventListener("input", (event) => {
    const field = event.target;
    if ("permissions" in field.dataset) check(field);
    const form = field.closest(".filter");
    if (!form) return;
    clearTimeout(typing);
    typing = setTimeout(() => filter(form), field.type === "search" ? searchPause : 0);
  });

  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    if (!dialog.hasAttribute("data-hold")) close();
  });
  // However it was closed, nothing stays.
  dialog.addEventListener("close", wipe);

  addEventListener("popstate", () => {
    const query = new URLSearchParams(location.search);
    for (const field of document.querySelectorAll("#keys .filter :is([name=q], [name=unused], [name=expiry])")) {
      if (field.type === "checkbox") field.checked = query.has(field.name);
      else field.value = query.get(field.name) ?? "";
    }
    refreshAll();
  });
  // A key that was not copied is lost when the page is left. Browsers say so in their own words.
  addEventListener("beforeunload", (event) => document.querySelector("#new-key:not([data-safe])") && event.preventDefault());
  // Somebody may copy it without the button.
  document.addEventListener("copy", () => {
    const key = document.getElementById("new-key");
    if (key && String(getSelection()).includes(key.textContent)) key.setAttribute("data-safe", "");
  });
  addEventListener("offline", () => say(text.offline));
  addEventListener("online", refresh);
  // The page may be kept in memory when it is left: not with a key in it.
  addEventListener("pagehide", () => {
    wipe();
    if (dialog.open) dialog.close();
    document.querySelectorAll("[data-hold], #new-key").forEach((e) => e.remove());
  });
  addEventListener("pageshow", (event) => event.persisted && location.reload());
  document.addEventListener("visibilitychange", refresh);

  // A list that takes long is asked for less often.
  (async function keepFresh() {
    let pause = refreshInterval;
    for (;;) {
      await new Promise((resume) => setTimeout(resume, pause));
      const began = performance.now();
      await refresh();
      pause = Math.max(refreshInterval, 20 * (performance.now() - began));
    }
  })();
})();
