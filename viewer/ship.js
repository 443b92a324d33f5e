// Last step of the build: the page becomes tasks/page_template.html, marked with what it was built from.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";

const sources = ["index.html", "package.json", "ship.js", "vite.config.js", ...readdirSync("src").map((name) => `src/${name}`)].sort();
const hash = createHash("sha256");
for (const name of sources) hash.update(name + "\0").update(readFileSync(name)).update("\0");

const licences = ["three", "@sparkjsdev/spark", "fflate"].map((name) => `${name}\n\n${readFileSync(`node_modules/${name}/LICENSE`, "utf8").trim()}\n`);
const notice = `<!--\nThis page contains the following software.\n\n${licences.join("\n")}-->\n`;
const built = readFileSync("dist/index.html", "utf8").replace("__SOURCES__", hash.digest("hex"));
const page = built.replace("<html", () => `${notice}<html`);
for (const mark of ["__CONTENT__", "__TITLE__"]) {
  const found = page.split(mark).length - 1;
  if (found !== 1) throw new Error(`expected ${mark} once in the built page, found it ${found} times`);
}
writeFileSync("../tasks/page_template.html", page);
console.log(`tasks/page_template.html: ${(page.length / 1e6).toFixed(2)} MB`);
