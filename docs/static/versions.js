// Where the pages of several versions are served, a list leads to the same page of another version.
async function offerVersions() {
  if (location.protocol === "file:") return;
  const here = new URL(document.documentElement.dataset.content_root, location.href);
  const site = new URL("..", here);
  const answer = await fetch(new URL("versions.json", site)).catch(() => null);
  if (!answer?.ok) return;
  const { versions, newest } = await answer.json();
  const current = here.pathname.split("/").at(-2);
  if (!versions.includes(current)) return;

  const list = document.createElement("select");
  list.className = "versions";
  list.ariaLabel = "Version";
  for (const version of versions) {
    list.add(new Option(version === newest ? `${version} (newest)` : version, version));
  }
  list.value = current;
  list.addEventListener("change", async () => {
    const other = new URL(`${list.value}/`, site);
    const page = new URL(location.href.slice(here.href.length), other);
    const found = await fetch(page, { method: "HEAD" }).catch(() => null);
    list.value = current; // the Back button comes back to this page
    location.href = found?.ok ? page : other;
  });
  document.querySelector(".sidebar-brand").after(list);
}

addEventListener("DOMContentLoaded", offerVersions);
