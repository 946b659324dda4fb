// OpenAI's client for Node against one server: BASE_URL and KEY from the environment. Prints what it
// got as one line of JSON; the Python test beside it judges.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.KEY, maxRetries: 0 });
const input = ["hello world", "the old river"];
const plain = await client.embeddings.create({ model: "any", input, encoding_format: "float" });
// Without encoding_format the client asks for base64 and decodes it itself.
const packed = await client.embeddings.create({ model: "any", input });
let refused;
try {
  await client.embeddings.create({ model: "any", input: [] });
} catch (error) {
  refused = { name: error.constructor.name, status: error.status, type: error.type };
}
const models = [];
for await (const model of client.models.list()) models.push(model.id);
console.log(JSON.stringify({
  plain: plain.data.map(d => d.embedding), packed: packed.data.map(d => Array.from(d.embedding)),
  usage: plain.usage, refused, models,
}));
