// Calls every operation of the plan through the client that openapi-generator made for TypeScript's fetch, compiled
// beside this file: call.mjs PLAN.json
import {readFileSync} from "node:fs";
import * as client from "./client/index.js";

const plan = JSON.parse(readFileSync(process.argv[2], "utf8"));
const lower = name => name[0].toLowerCase() + name.slice(1).replace(/^[A-Z]+(?=[A-Z])/, word => word.toLowerCase());
const heads = new Blob([readFileSync(plan.heads)]);
const apis = Object.entries(client).filter(([name]) => name.endsWith("Api")).map(([, kind]) => kind);

for (const one of plan.cases) {
  const kind = apis.find(api => `${one.operation}Raw` in api.prototype);
  if (!kind) throw new Error(`the client has no ${one.operation}`);
  const api = new kind(new client.Configuration({basePath: one.admin ? plan.admin : plan.main, accessToken: one.admin ? plan.token : undefined}));
  const source = api[`${one.operation}Raw`].toString(), given = {};
  const names = [...source.matchAll(/requestParameters\['(\w+)'\] == null/g)].map(found => found[1]);
  one.paths.forEach((value, i) => { given[names[i]] = value; });
  if (one.schema) given[[...source.matchAll(/ToJSON\)\(requestParameters\['(\w+)'\]/g), ...source.matchAll(/ToJSON\(requestParameters\['(\w+)'\]/g)][0][1]] =
    client[`${one.schema}FromJSON`](one.body);
  else if (one.bytes) given.body = heads;
  const answer = await api[`${one.operation}Raw`](given).catch(error => {
    if (error.response?.status !== one.status) throw new Error(`${one.operation}: ${error.response?.status ?? error}`);
  });
  if (!answer) continue;
  if (answer.raw.status !== one.status) throw new Error(`${one.operation}: ${answer.raw.status}`);
  // Of one of several shapes this generator reads objects alone: arrays come by the plain answer.
  const value = one.union ? await answer.raw.json() : await answer.value();
  if (one.json && value === undefined) throw new Error(`${one.operation}: the answer was not parsed`);
}
console.log(`${plan.cases.length} called`);
