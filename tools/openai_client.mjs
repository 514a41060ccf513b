// Talks to a running server with the unmodified `openai` package: node openai_client.mjs URL MODEL
import assert from "node:assert/strict";
import OpenAI from "openai";

const [url, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });

const models = [];
for await (const found of client.models.list()) models.push(found.id);
assert.ok(models.includes(model), models);

const messages = [{ role: "user", content: "Name three colours." }];
const whole = await client.chat.completions.create({ model, messages, max_completion_tokens: 24, seed: 7 });
assert.ok(["stop", "length"].includes(whole.choices[0].finish_reason));
assert.ok(whole.usage.selfextend.trained_window > 0);

let text = "", usage;
const stream = await client.chat.completions.create({
  model, messages, max_completion_tokens: 24, seed: 7, stream: true, stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  usage = chunk.usage ?? usage;
  text += chunk.choices[0]?.delta?.content ?? "";
}
assert.equal(text, whole.choices[0].message.content);
assert.equal(usage.total_tokens, whole.usage.total_tokens);

const plain = await client.completions.create({ model, prompt: "Once upon a time", max_tokens: 8, temperature: 0 });
assert.ok(plain.choices[0].text.length > 0);

// Stopping early must not disturb what follows.
const abandoned = await client.chat.completions.create({ model, messages, max_completion_tokens: 400, stream: true });
for await (const _ of abandoned) break;

await assert.rejects(client.chat.completions.create({ model: "no-such-model", messages }), OpenAI.NotFoundError);
await assert.rejects(client.chat.completions.create({ model, messages, n: 0 }), OpenAI.BadRequestError);
await assert.rejects(
  client.chat.completions.create({ model, messages: [{ role: "user", content: "x ".repeat(400000) }] }),
  (error) => error.code === "context_length_exceeded",
);
console.log("javascript client: ok");
