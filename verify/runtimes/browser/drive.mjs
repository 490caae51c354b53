// node drive.mjs QUESTIONS.json ANSWERS.json: opens the page in a real browser, anew for each call of one of its
// functions: `ask` with the questions, or `adapter`.
// Whatever the page, its console or its network complains about goes into `problems`; the judge decides what it means.
import { readFile, writeFile } from "node:fs/promises";

import { chromium } from "playwright-core";

const [questionsFile, answersFile] = process.argv.slice(2);
const questions = JSON.parse(await readFile(questionsFile, "utf8"));
const { origin, executable, profile, arguments: args, calls } = questions;

const browser = await chromium.launchPersistentContext(profile, {
  executablePath: executable,
  headless: true,
  args,
  chromiumSandbox: !args.includes("--no-sandbox"),
  timeout: 60_000,
});
const answers = [];
for (const { call, ...asked } of calls) {
  const problems = [];
  const page = await browser.newPage();
  page.setDefaultTimeout(0); // the launcher bounds the whole
  page.on("pageerror", (error) => problems.push(`page error: ${error.message}`));
  page.on("crash", () => problems.push("the page crashed"));
  page.on("console", (message) => {
    if (message.type() === "error") problems.push(`console error: ${message.text()}`);
  });
  page.on("requestfailed", (request) => problems.push(`failed: ${request.url()} ${request.failure()?.errorText}`));
  page.on("response", (response) => {
    if (response.status() >= 400) problems.push(`status ${response.status()}: ${response.url()}`);
  });
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (url.protocol.startsWith("http") && url.origin !== origin) problems.push(`left the server: ${request.url()}`);
  });
  let found = null;
  try {
    await page.goto(`${origin}/page.html`);
    await page.waitForFunction(() => window.ready);
    found = await page.evaluate(([name, given]) => window[name](given), [call, asked]);
  } catch (error) {
    problems.push(error.message);
  }
  answers.push({ problems, found });
  await page.close();
}
await browser.close();
await writeFile(answersFile, JSON.stringify({ calls: answers }));
