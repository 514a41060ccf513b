// Uses the web page of a running server in headless Chromium: node page.mjs URL FOLDER
// Needs the package playwright-core and a Chromium (CHROMIUM names it). Leaves screenshots.
import assert from "node:assert/strict";
import fs from "node:fs";
import { chromium } from "playwright-core";

const [url, folder] = process.argv.slice(2);
fs.mkdirSync(folder, { recursive: true });
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const context = await browser.newContext({ viewport: { width: 1000, height: 760 }, colorScheme: "light" });
const page = await context.newPage();
const problems = [];
page.on("pageerror", error => problems.push(String(error)));
page.on("console", message => message.type() === "error" && problems.push(message.text()));
page.on("request", request => request.url().startsWith(url) || request.url().startsWith("data:") || problems.push(`a request to ${request.url()}`));
const shot = name => page.screenshot({ path: `${folder}/${name}.png` });
const idle = () => page.waitForFunction(() => document.querySelector("#stop").disabled, null, { timeout: 900_000 });
const answers = () => page.locator("article.assistant .said");

await page.goto(url);
await page.waitForFunction(() => Number(document.querySelector("#context").textContent.replaceAll(",", "")) > 0);
await shot("1-empty-light");

// By keyboard alone: the message has the focus, Enter sends.
await page.keyboard.type("What is the capital of France?");
await page.keyboard.press("Enter");
await answers().first().waitFor();
await idle();
assert.ok((await answers().first().textContent()).length > 0);
assert.match(await page.locator("article.assistant .note").textContent(), /tokens read/);
assert.ok(Number(await page.locator("#meter").getAttribute("aria-valuenow")) > 0);
await shot("2-answer-light");

// A document beyond the trained window, dropped on the page.
const trained = await page.evaluate(() => state.trained);
const words = "The river ran past the mill and the old bridge while rain fell on the quiet town. ";
const text = words.repeat(Math.ceil(trained * 1.15 / 17)) + "\nThe pass key is 48213. Remember it.\n";
await page.click("#reset");
const transfer = await page.evaluateHandle(text => {
  const data = new DataTransfer();
  data.items.add(new File([text], "town.txt", { type: "text/plain" }));
  return data;
}, text);
await page.dispatchEvent("body", "dragenter", { dataTransfer: transfer });
await shot("3-drop");
await page.dispatchEvent("body", "drop", { dataTransfer: transfer });
await page.locator(".document", { hasText: "tokens" }).waitFor();
await page.keyboard.type("What is the pass key?");
await shot("4-attached");
await page.keyboard.press("Enter");
await idle();
assert.match(await page.locator("#method").textContent(), /SelfExtend: group size/);
await page.emulateMedia({ colorScheme: "dark" });
await shot("5-extended-dark");

// Stop with Escape, then retry.
await page.fill("#say", "Tell me a very long story.");
await page.keyboard.press("Enter");
await page.waitForFunction(() => !document.querySelector("#stop").disabled);
await page.keyboard.press("Escape");
await idle();
assert.match(await page.locator("article.assistant .note").last().textContent(), /stopped|tokens read/);
const before = await page.locator("article").count();
await page.click("#retry");
await idle();
assert.equal(await page.locator("article").count(), before);
await shot("6-retried-dark");

// Settings open by keyboard; a narrow screen holds everything.
assert.ok(!(await page.locator("#temperature").isVisible()));
await page.focus("#settings summary");
await page.keyboard.press("Enter");
await page.locator("#temperature").waitFor();
await page.setViewportSize({ width: 390, height: 760 });
await shot("7-narrow-settings-dark");
const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
assert.ok(!wide, "the page is wider than a phone");

assert.deepEqual(problems, []);
await browser.close();
console.log("page: ok");
