// Embeddings and labels through Hugging Face's own client for JavaScript; prints what it got as JSON.
import {InferenceClient} from "@huggingface/inference";

const client = new InferenceClient(), inputs = "hello world", endpointUrl = `${process.env.URL}/classify`;
console.log(JSON.stringify({
  vector: await client.featureExtraction({endpointUrl: process.env.URL, inputs}),
  // It expects [[…]], which the member "parameters" asks for, even empty.
  labels: await client.textClassification({endpointUrl, inputs, parameters: {}}),
  best: await client.textClassification({endpointUrl, inputs, parameters: {top_k: 1}}),
}));
