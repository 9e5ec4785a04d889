// A tiny stdio MCP server without any SDK that sends its client requests, many at once. Used by storm.mjs.
//
// Tools:
//   ask {kind, nonce}      kind: elicit | sample | roots. Asks, and returns what was answered.
//          kind url        elicitation by url; then its completion notification; then returns the answer.
//          kind later      returns at once and asks afterwards, when no call of it is open; `collect {nonce}` waits for the answer.
//   whoami {}              its pid.
// Every request to the client bears the nonce of the call that caused it, and nothing is looked up but by the id of that request.

import { createInterface } from 'node:readline';

const serverRequests = new Map();
const later = new Map();
let nextId = 1;

const send = (message) => process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);

function sendRequest(method, params) {
  const id = `q${nextId++}`;
  send({ id, method, params });
  return new Promise((resolve, reject) => serverRequests.set(id, { resolve, reject }));
}

const ask = {
  elicit: (nonce) =>
    sendRequest('elicitation/create', {
      message: `what goes with ${nonce}?`,
      requestedSchema: { type: 'object', properties: { answer: { type: 'string' } }, required: ['answer'] },
    }),
  sample: (nonce) => sendRequest('sampling/createMessage', { messages: [{ role: 'user', content: { type: 'text', text: `complete ${nonce}` } }], maxTokens: 10 }),
  roots: (nonce) => sendRequest('roots/list', { _meta: { nonce } }),
  async url(nonce) {
    const answer = await sendRequest('elicitation/create', { mode: 'url', message: `open ${nonce}`, url: `https://example.org/${nonce}`, elicitationId: nonce });
    send({ method: 'notifications/elicitation/complete', params: { elicitationId: nonce } });
    return answer;
  },
};

const tools = {
  async ask({ kind, nonce }) {
    if (kind !== 'later') return ask[kind](nonce);
    // After the answer to this call has been written, so that no call is open when the request goes out.
    later.set(nonce, new Promise((resolve) => setTimeout(() => resolve(ask.elicit(nonce)), 5)));
    later.get(nonce).catch(() => {});
    return { promised: nonce };
  },
  async collect({ nonce }) {
    const answer = await later.get(nonce);
    later.delete(nonce);
    return answer;
  },
  whoami: async () => ({ pid: process.pid }),
};

const inputSchema = { type: 'object' };

async function serve({ id, method, params }) {
  switch (method) {
    case 'initialize':
      return { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 'asker', version: '1' } };
    case 'ping':
      return {};
    case 'tools/list':
      return { tools: Object.keys(tools).map((name) => ({ name, inputSchema })) };
    case 'tools/call': {
      const answer = await tools[params.name](params.arguments ?? {});
      return { content: [{ type: 'text', text: JSON.stringify(answer) }] };
    }
    default:
      throw Object.assign(new Error(`no method ${method}`), { code: -32601, id });
  }
}

createInterface({ input: process.stdin, crlfDelay: Infinity }).on('line', (line) => {
  if (!line.trim()) return;
  const message = JSON.parse(line);
  if (message.method === undefined) {
    const asked = serverRequests.get(message.id);
    serverRequests.delete(message.id);
    if (!asked) process.stderr.write(`astray: an answer to ${message.id}, which was not asked\n`);
    else if (message.error) asked.reject(new Error(JSON.stringify(message.error)));
    else asked.resolve(message.result);
  } else if (message.id !== undefined) {
    serve(message)
      .then((result) => send({ id: message.id, result }))
      .catch((error) => send({ id: message.id, error: { code: error.code ?? -32603, message: error.message } }));
  }
});
