// A walk through all that server-everything offers, with the official TypeScript client, once against the server itself
// and once through sessile. Both walks must see the same: every message that arrives is compared as its own text, with
// only ids of server requests and volatile values (times, random ids) made equal first.
//
//   node everything.mjs [--sessile PATH] [--backend stdio|http|sse]
//       the server itself on stdio, against all fronts of sessile (streamable HTTP with and without a GET stream, HTTP+SSE,
//       stdio) with the server behind them by that transport
//   node everything.mjs --through TARGET ... [--direct TARGET]
//       targets of your own: a URL (HTTP+SSE if its path ends with /sse), or "stdio: COMMAND ARGS"
//   --no-get      the client opens no GET stream to URLs (many clients do not)
//   --show        prints what the direct walk saw
//   --only TEXT   only steps whose name contains it (the first always runs)
//
// Without a GET stream, what the server says between calls arrives with a later one: then notifications are compared
// over the whole walk, and server requests and answers step by step as always.

import { adopt, alive, check, defaultSessile, descendants, describe, everythingHttp, everythingJs, everythingSse, lines, now, options, peer, run, serve, sleep, sseParser, until, within } from './lib.mjs';

const { Client } = peer('@modelcontextprotocol/sdk/client/index.js');
const { StdioClientTransport } = peer('@modelcontextprotocol/sdk/client/stdio.js');
const { SSEClientTransport } = peer('@modelcontextprotocol/sdk/client/sse.js');
const { StreamableHTTPClientTransport } = peer('@modelcontextprotocol/sdk/client/streamableHttp.js');
const { InMemoryTaskStore } = peer('@modelcontextprotocol/sdk/experimental/tasks/stores/in-memory.js');
const types = peer('@modelcontextprotocol/sdk/types.js');

const opts = options({ values: { sessile: '', direct: '', only: '', backend: 'stdio' }, flags: ['no-get', 'show'], lists: ['through'] });
const everything = [process.execPath, everythingJs, 'stdio'];
const QUIET = 150;

// ------------------------------------------------------------------------------------------------------ the steps

/** Steps are `[name, seconds, async (walk) => ...]`; a step fails when it throws, in either walk. */
const steps = [];
const step = (name, seconds, body) => steps.push([name, seconds, body]);
const expect = (good, what) => {
  if (!good) throw new Error(`expected ${what}`);
};
const text = (result, n = 0) => result.content[n].text;

step('connect', 10, async (w) => {
  await w.connect();
  // The server asks for roots 350 ms after `initialized`. Without a GET stream that must wait for the call below.
  await sleep(700);
  await w.rpc('tools/list');
  await w.until(() => w.requests('roots/list').length > 0, 'a request for roots');
  await w.until(() => w.notes('notifications/message').length > 0 || w.noGet, 'the log message after roots');
  expect(w.client.getInstructions()?.length > 100, 'instructions');
  expect(w.client.getServerVersion()?.name === 'mcp-servers/everything', 'serverInfo');
});
step('ping', 5, (w) => w.rpc('ping'));
step('tools/list', 5, async (w) => {
  const { tools } = await w.rpc('tools/list');
  expect(tools.length === 19, `19 tools, there are ${tools.length}: ${tools.map((t) => t.name)}`);
  expect(tools.some((t) => t.execution?.taskSupport === 'required'), 'a tool that needs a task');
  expect(tools.some((t) => t.outputSchema), 'a tool with an output schema');
  await w.rpc('tools/list', { cursor: 'made-up' });
});
step('echo', 5, async (w) => {
  expect(text(await w.tool('echo', { message: 'hello' })) === 'Echo: hello', 'an echo');
});
step('echo of odd strings', 10, async (w) => {
  const odd = ['', ' ', '\0\u0001\t\r\n\u001f', '\u2028\u2029\ufeff', 'ünïcödé 🦐 👩‍👩‍👧', '\ud800 alone', 'alone \udfff', '"\\/\b\f', '</script>', '\\ud83d\\ude00', 'data: x\n\nevent: y', '{"jsonrpc":"2.0","id":0,"result":{}}', 'x'.repeat(300_000)];
  for (const message of odd) {
    const got = text(await w.tool('echo', { message }));
    expect(got === `Echo: ${message}`, `the same back for ${JSON.stringify(message).slice(0, 60)}`);
  }
});
step('numbers', 5, async (w) => {
  for (const [a, b] of [[1, 2], [0.1, 0.2], [-0, 0], [1e21, 1e-7], [Number.MAX_SAFE_INTEGER, 1], [1.0, 3e300]]) await w.tool('get-sum', { a, b });
});
step('unknown fields in a call', 5, async (w) => {
  await w.rpc('tools/call', { name: 'echo', arguments: { message: 'm', extra: null, __proto__x: [] }, vendor: { a: [null, 1.0, {}] }, _meta: { 'example.org/trace': 'abc', n: null } });
});
step('annotations', 5, async (w) => {
  for (const messageType of ['error', 'success', 'debug']) for (const includeImage of [false, true]) await w.tool('get-annotated-message', { messageType, includeImage });
});
step('environment', 5, async (w) => {
  const result = await w.tool('get-env', {});
  const env = JSON.parse(text(result));
  expect(!Object.keys(env).some((name) => name.startsWith('SESSILE_')), 'no SESSILE_ variable');
  expect(env.PATH, 'a PATH');
});
step('resource links', 5, async (w) => {
  for (const args of [{}, { count: 1 }, { count: 10 }]) await w.tool('get-resource-links', args);
});
step('embedded resources', 5, async (w) => {
  for (const resourceType of ['Text', 'Blob']) await w.tool('get-resource-reference', { resourceType, resourceId: 7 });
});
step('structured content', 5, async (w) => {
  for (const location of ['New York', 'Chicago', 'Los Angeles']) {
    const result = await w.tool('get-structured-content', { location });
    expect(typeof result.structuredContent.temperature === 'number', 'structuredContent');
  }
});
step('structured content, validated by the client', 5, async (w) => {
  await w.client.listTools();
  await w.client.callTool({ name: 'get-structured-content', arguments: { location: 'Chicago' } });
});
step('image', 5, async (w) => expect((await w.tool('get-tiny-image', {})).content[1].mimeType === 'image/png', 'an image'));
step('roots', 5, async (w) => expect(text(await w.tool('get-roots-list', {})).includes('file:///first'), 'the first root'));
step('roots change', 10, async (w) => {
  w.roots = [...w.roots, { uri: 'file:///third%20one', name: 'third', _meta: { k: 1 } }];
  await w.client.sendRootsListChanged();
  await w.tool('trigger-long-running-operation', { duration: 0.3, steps: 1 }); // a call for the server request to come with
  await w.until(() => w.requests('roots/list').length > 0, 'to be asked again');
  await sleep(QUIET);
  expect(text(await w.tool('get-roots-list', {})).includes('third'), 'the third root');
});
step('progress', 10, async (w) => {
  await w.rpc('tools/call', { name: 'trigger-long-running-operation', arguments: { duration: 1, steps: 10 } }, { onprogress() {} });
  // On the wire: this SDK drops a progress that it reads together with the answer, so that its handler misses the last.
  const seen = w.notes('notifications/progress').map(({ message }) => `${message.params.progress}/${message.params.total}`);
  expect(seen.join() === Array.from({ length: 10 }, (_, i) => `${i + 1}/10`).join(), `ten steps of progress in order before the answer, not ${seen}`);
});
step('progress of two calls at once', 10, async (w) => {
  const call = (steps) => w.rpc('tools/call', { name: 'trigger-long-running-operation', arguments: { duration: 1, steps } }, { onprogress() {} });
  await Promise.all([call(5), call(4)]);
  const all = w.notes('notifications/progress').map(({ message }) => message.params);
  for (const total of [5, 4]) {
    const mine = all.filter((p) => p.total === total);
    expect(mine.map((p) => p.progress).join() === Array.from({ length: total }, (_, i) => i + 1).join(), `all progress of ${total} in order`);
    expect(new Set(mine.map((p) => p.progressToken)).size === 1, 'one token for each');
  }
  // The two have clocks of their own: which goes first at the end is chance.
  w.unordered = true;
});
step('cancel', 10, async (w) => {
  const stop = new AbortController();
  const call = w.rpc('tools/call', { name: 'trigger-long-running-operation', arguments: { duration: 1.5, steps: 3 } }, { signal: stop.signal });
  call.catch(() => {});
  await sleep(300);
  stop.abort('enough');
  expect(await call.then(() => false, () => true), 'the call to be given up');
  await w.rpc('ping');
  await sleep(1700); // No answer may come now.
  await w.rpc('ping');
});
step('sampling', 10, async (w) => {
  expect(text(await w.tool('trigger-sampling-request', { prompt: 'say it', maxTokens: 17 })).includes('sampled: Resource trigger-sampling-request context: say it'), 'what we sampled');
});
step('sampling refused', 10, async (w) => {
  w.refuse = true;
  await w.tool('trigger-sampling-request', { prompt: 'no' }).catch(() => {});
  w.refuse = false;
});
step('elicitation, accepted', 10, async (w) => expect(text(await w.tool('trigger-elicitation-request', {})).includes('provided'), 'acceptance'));
step('elicitation, declined and cancelled', 10, async (w) => {
  for (const action of ['decline', 'cancel']) {
    w.action = action;
    await w.tool('trigger-elicitation-request', {});
  }
  w.action = 'accept';
});
step('elicitation by url', 10, async (w) => {
  for (const action of ['accept', 'decline', 'cancel']) {
    w.action = action;
    await w.tool('trigger-url-elicitation', { url: 'https://example.org/a?b=c#d', message: 'please', elicitationId: `e-${action}` });
  }
  w.action = 'accept';
});
step('error -32042 and its retry', 10, async (w) => {
  const args = { url: 'https://example.org/first', errorPath: true };
  const error = await w.tool('trigger-url-elicitation', args).then(() => null, (e) => e);
  expect(error?.code === -32042 && error.data?.elicitations?.[0]?.mode === 'url', `error -32042 with its elicitations, not ${error}`);
  await w.tool('trigger-url-elicitation', args);
});
step('two server requests at once', 10, (w) => Promise.all([w.tool('trigger-elicitation-request', {}), w.tool('trigger-sampling-request', { prompt: 'both' })]));
step('logging', 15, async (w) => {
  for (const level of ['debug', 'info', 'notice', 'warning', 'error', 'critical', 'alert', 'emergency']) await w.rpc('logging/setLevel', { level });
  await w.rpc('resources/subscribe', { uri: 'demo://resource/dynamic/text/1' }); // logs at info: filtered now
  await w.rpc('logging/setLevel', { level: 'debug' });
  await w.rpc('resources/unsubscribe', { uri: 'demo://resource/dynamic/text/1' });
  await w.until(() => w.notes('notifications/message').length > 0 || w.noGet, 'a log message');
  await w.rpc('logging/setLevel', { level: 'loud' }).catch(() => {});
});
step('simulated logging', 15, async (w) => {
  await w.tool('toggle-simulated-logging', {});
  await sleep(5500); // one at once, and one after 5 s outside any call
  await w.tool('toggle-simulated-logging', {});
  await w.until(() => w.notes('notifications/message').length === 2 || w.noGet, 'two log messages');
});
step('resources/list', 5, async (w) => expect((await w.rpc('resources/list')).resources.length >= 7, 'the documents'));
step('resources/templates/list', 5, async (w) => expect((await w.rpc('resources/templates/list')).resourceTemplates.length === 2, 'two templates'));
step('resources/read, static', 5, async (w) => {
  for (const { uri } of (await w.rpc('resources/list')).resources) await w.rpc('resources/read', { uri });
});
step('resources/read, dynamic', 5, async (w) => {
  for (const kind of ['text', 'blob']) await w.rpc('resources/read', { uri: `demo://resource/dynamic/${kind}/42` });
});
step('subscriptions', 20, async (w) => {
  const uris = ['demo://resource/dynamic/text/1', 'demo://resource/dynamic/blob/2'];
  for (const uri of uris) await w.rpc('resources/subscribe', { uri });
  await w.tool('toggle-subscriber-updates', {}); // at once, then every 5 s
  await sleep(5500);
  await w.rpc('resources/unsubscribe', { uri: uris[0] });
  await sleep(5000);
  await w.tool('toggle-subscriber-updates', {});
  await w.rpc('resources/unsubscribe', { uri: uris[1] });
  await w.until(() => w.notes('notifications/resources/updated').length === 5 || w.noGet, 'five updates');
});
step('session resources', 10, async (w) => {
  const data = 'data:text/plain;base64,c2Vzc2lsZQ==';
  const link = (await w.tool('gzip-file-as-resource', { name: 'one.gz', data, outputType: 'resourceLink' })).content[0];
  await w.tool('gzip-file-as-resource', { name: 'two.gz', data, outputType: 'resource' });
  await w.tool('gzip-file-as-resource', { name: 'one.gz', data, outputType: 'resource' }); // replaces the first
  await w.until(() => w.notes('notifications/resources/list_changed').length > 0 || w.noGet, 'list_changed');
  const { contents } = await w.rpc('resources/read', { uri: link.uri });
  expect(contents[0].blob.startsWith('H4sI'), 'gzip');
  await w.rpc('resources/list');
  await w.tool('gzip-file-as-resource', { name: 'bad.gz', data: 'file:///etc/hostname' });
});
step('prompts/list', 5, async (w) => expect((await w.rpc('prompts/list')).prompts.length === 4, 'four prompts'));
step('prompts/get', 5, async (w) => {
  await w.rpc('prompts/get', { name: 'simple-prompt' });
  await w.rpc('prompts/get', { name: 'args-prompt', arguments: { city: 'Kiel' } });
  await w.rpc('prompts/get', { name: 'args-prompt', arguments: { city: 'Kiel', state: 'SH' } });
  await w.rpc('prompts/get', { name: 'completable-prompt', arguments: { department: 'Sales', name: 'Eve' } });
  for (const resourceType of ['Text', 'Blob']) await w.rpc('prompts/get', { name: 'resource-prompt', arguments: { resourceType, resourceId: '3' } });
});
step('completions', 5, async (w) => {
  const complete = (ref, name, value, context) => w.rpc('completion/complete', { ref, argument: { name, value }, ...(context ? { context } : {}) });
  const prompt = { type: 'ref/prompt', name: 'completable-prompt' };
  await complete(prompt, 'department', '');
  await complete(prompt, 'department', 'S');
  const names = await complete(prompt, 'name', '', { arguments: { department: 'Support' } });
  expect(names.completion.values.join() === 'John,Kim,Lee', 'names of that department');
  await complete({ type: 'ref/prompt', name: 'resource-prompt' }, 'resourceId', '12');
  await complete({ type: 'ref/resource', uri: 'demo://resource/dynamic/text/{resourceId}' }, 'resourceId', '5');
});
step('task with clarification', 20, async (w) => {
  const { task } = await w.rpc('tools/call', { name: 'simulate-research-query', arguments: { topic: 'python', ambiguous: true }, task: { ttl: 60_000 } });
  expect(task?.taskId && task.status === 'working', 'a task');
  await w.rpc('tasks/get', { taskId: task.taskId });
  const result = await w.rpc('tasks/result', { taskId: task.taskId }, { timeout: 15_000 });
  expect(w.requests('elicitation/create').length === 1, 'one server request while it ran');
  expect(text(result).includes('snake'), 'our interpretation in the report');
  expect((await w.rpc('tasks/get', { taskId: task.taskId })).status === 'completed', 'completion');
  await w.rpc('tasks/list');
});
step('task cancelled', 10, async (w) => {
  const { task } = await w.rpc('tools/call', { name: 'simulate-research-query', arguments: { topic: 'nothing' }, task: {} });
  await w.rpc('tasks/cancel', { taskId: task.taskId });
  expect((await w.rpc('tasks/get', { taskId: task.taskId })).status === 'cancelled', 'a cancelled task');
  await w.rpc('tasks/cancel', { taskId: task.taskId }).catch(() => {});
  await w.rpc('tasks/list');
  await sleep(1300);
});
step('tasks of the client', 25, async (w) => {
  const [sampled, elicited] = await Promise.all([w.tool('trigger-sampling-request-async', { prompt: 'slowly' }), w.tool('trigger-elicitation-request-async', {})]);
  expect(text(sampled).includes('COMPLETED') && text(sampled).includes('slowly'), 'the sampled task');
  expect(text(elicited).includes('COMPLETED'), 'the elicited task');
  expect(w.requests('tasks/result').length === 2, 'to be asked for both results');
});
step('errors', 10, async (w) => {
  const failing = [
    ['no/such/method', {}],
    ['no/such/method/without/params'],
    ['tools/call', {}],
    ['tools/call', { name: 'no-such-tool', arguments: {} }],
    ['tools/call', { name: 'echo' }],
    ['tools/call', { name: 'echo', arguments: { message: 7 } }],
    ['tools/call', { name: 'get-resource-links', arguments: { count: 99 } }],
    ['tools/call', { name: 'simulate-research-query', arguments: { topic: 'x' } }],
    ['tools/call', { name: 'echo', arguments: { message: 'x' }, task: {} }],
    ['resources/read', { uri: 'demo://nowhere' }],
    ['resources/read', { uri: 'demo://resource/dynamic/text/zero' }],
    ['resources/read', {}],
    ['resources/subscribe', {}],
    ['prompts/get', { name: 'no-such-prompt' }],
    ['prompts/get', { name: 'args-prompt', arguments: {} }],
    ['prompts/get', { name: 'resource-prompt', arguments: { resourceType: 'Nope', resourceId: '1' } }],
    ['completion/complete', { ref: { type: 'ref/prompt', name: 'no' }, argument: { name: 'a', value: '' } }],
    ['completion/complete', { ref: { type: 'ref/resource', uri: 'demo://x' }, argument: { name: 'a', value: '' } }],
    ['tasks/get', { taskId: 'none' }],
    ['tasks/result', { taskId: 'none' }],
    ['tasks/cancel', { taskId: 'none' }],
  ];
  for (const [method, params] of failing) await w.rpc(method, params).catch((error) => expect(error.code !== types.ErrorCode.RequestTimeout, `an answer to ${method} ${JSON.stringify(params)}`));
});
step('notifications that mean nothing', 5, async (w) => {
  await w.client.transport.send({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 123_456, reason: 'never asked' } });
  await w.client.transport.send({ jsonrpc: '2.0', method: 'notifications/vendor/hello', params: { a: [1, null] } });
  await w.client.transport.send({ jsonrpc: '2.0', method: 'notifications/progress', params: { progressToken: 'nobody', progress: 1 } });
  await w.rpc('ping');
});
step('thirty calls at once', 20, async (w) => {
  const all = await Promise.all(Array.from({ length: 30 }, (_, i) => w.tool('echo', { message: `n${i}` })));
  expect(all.every((r, i) => text(r) === `Echo: n${i}`), 'each its own answer');
});
step('still there', 5, (w) => w.rpc('ping'));

// ------------------------------------------------------------------------------------------------------- one walk

class Walk {
  constructor(target, noGet) {
    this.target = target;
    this.noGet = noGet && /^http/.test(target);
    this.heard = []; // what arrived in this step, {raw, message}
    this.said = []; // what the client answered in this step
    this.last = now();
    this.gets = 0;
    this.action = 'accept';
    this.refuse = false;
    this.roots = [
      { uri: 'file:///first', name: 'first' },
      { uri: 'file:///second%C3%A9' },
    ];
    this.errors = [];
  }

  hear(raw) {
    this.last = now();
    this.heard.push({ raw, message: JSON.parse(raw) });
  }

  async connect() {
    const capabilities = {
      roots: { listChanged: true },
      sampling: { tools: {}, context: {} },
      elicitation: { form: {}, url: {} },
      tasks: { list: {}, cancel: {}, requests: { sampling: { createMessage: {} }, elicitation: { create: {} } } },
      experimental: { 'example.org/odd': { deep: [null, 1] } },
    };
    // No message queue: with one, this SDK would keep its answer to a task's request in it for ever.
    this.client = new Client({ name: 'walker', title: 'The walker', version: '1.0.0', websiteUrl: 'https://example.org' }, { capabilities, taskStore: new InMemoryTaskStore() });
    this.client.onerror = (error) => this.errors.push(error.message);
    this.client.setRequestHandler(types.ListRootsRequestSchema, () => ({ roots: this.roots }));
    this.client.setRequestHandler(types.CreateMessageRequestSchema, (request, extra) => {
      if (this.refuse) throw new types.McpError(-1, 'user rejected sampling request', { why: null });
      const said = { role: 'assistant', model: 'none-1', stopReason: 'endTurn', content: { type: 'text', text: `sampled: ${request.params.messages[0].content.text}` } };
      return request.params.task ? this.asTask(request, extra, said) : said;
    });
    this.client.setRequestHandler(types.ElicitRequestSchema, (request, extra) => {
      if (this.action !== 'accept') return { action: this.action };
      if (request.params.mode === 'url') return { action: 'accept' };
      const content = 'interpretation' in request.params.requestedSchema.properties ? { interpretation: 'snake' } : { name: 'Ada Lovelace', check: true, integer: 7, number: 2.5, email: 'ada@example.org', untitledMultipleSelectEnum: ['Piano', 'Drums'] };
      const said = { action: 'accept', content };
      return request.params.task ? this.asTask(request, extra, said) : said;
    });
    const transport = this.open();
    const send = transport.send.bind(transport);
    transport.send = (message, options) => {
      if (message.method === undefined) this.said.push(message);
      return send(message, options);
    };
    await this.client.connect(transport);
  }

  /** Answers a server request with a task that is done after one and a half seconds: two polls of the server. */
  async asTask(request, extra, result) {
    const task = await extra.taskStore.createTask({ ttl: request.params.task.ttl ?? null, pollInterval: 1000 });
    setTimeout(() => extra.taskStore.storeTaskResult(task.taskId, 'completed', result).catch((e) => this.errors.push(e.message)), 1500);
    return { task };
  }

  /** The official transports, with an ear at what they read. */
  open() {
    const command = /^stdio:\s*(.*)$/s.exec(this.target)?.[1];
    if (command !== undefined) {
      const [program, ...args] = command.match(/"[^"]*"|\S+/g).map((word) => word.replace(/^"(.*)"$/, '$1'));
      const transport = new StdioClientTransport({ command: program, args, stderr: 'ignore' });
      const begin = transport.start.bind(transport);
      transport.start = async () => {
        await begin();
        this.child = adopt(transport._process);
        lines(transport._process.stdout, (line) => this.hear(line));
      };
      return transport;
    }
    const url = new URL(this.target);
    const Transport = url.pathname.endsWith('/sse') ? SSEClientTransport : StreamableHTTPClientTransport;
    return new Transport(url, {
      fetch: async (url, init) => {
        if (this.noGet && (init?.method ?? 'GET') === 'GET') return new Response(null, { status: 405 });
        if (init?.method === 'GET') this.gets++;
        const response = await fetch(url, init);
        if (!response.body) return response;
        const type = response.headers.get('content-type') ?? '';
        const decoder = new TextDecoder();
        let json = '';
        const events = sseParser((event) => event.data && event.event !== 'endpoint' && this.hear(event.data));
        const ear = new TransformStream({
          transform: (chunk, out) => {
            const part = decoder.decode(chunk, { stream: true });
            if (type.startsWith('text/event-stream')) events(part);
            else json += part;
            out.enqueue(chunk);
          },
          flush: () => {
            if (type.startsWith('application/json') && json.trim()) this.hear(json);
          },
        });
        return new Response(response.body.pipeThrough(ear), { status: response.status, statusText: response.statusText, headers: response.headers });
      },
    });
  }

  rpc(method, params, options = {}) {
    return this.client.request({ method, ...(params === undefined ? {} : { params }) }, types.ResultSchema, { timeout: 10_000, ...options });
  }

  tool(name, args) {
    return this.rpc('tools/call', { name, arguments: args });
  }

  notes(method) {
    return this.heard.filter(({ message }) => message.method === method && message.id === undefined);
  }

  requests(method) {
    return this.heard.filter(({ message }) => message.method === method && message.id !== undefined);
  }

  async until(ask, what) {
    expect(await until(5000, ask, 20), what);
  }

  async step(name, seconds, body) {
    this.heard = [];
    this.said = [];
    this.unordered = false;
    let error = null;
    try {
      await within(seconds * 1000, name, body(this));
    } catch (e) {
      error = e.message;
    }
    if (!this.client?.transport) return { error: error ?? 'not connected' };
    // What comes on another stream than the answer may be later than it. Without a GET stream it comes with the ping.
    await until(3000, () => now() - this.last > QUIET, 10);
    await this.rpc('ping').catch((e) => (error ??= `ping afterwards: ${e.message}`));
    await until(3000, () => now() - this.last > QUIET / 3, 10);
    return this.observe(error);
  }

  /** What a step saw, by kind; within a kind in the order of arrival, answers in the order of the calls. */
  observe(error) {
    const seen = { error, answers: [], serverRequests: [], replies: [], notifications: {} };
    const requests = this.heard.filter(({ message }) => message.method !== undefined && message.id !== undefined);
    const ids = new Map(requests.map(({ message }, i) => [message.id, i]));
    const byId = [...this.heard].filter(({ message }) => message.method === undefined).sort((a, b) => a.message.id - b.message.id);
    for (const { raw } of byId) seen.answers.push(normal(raw));
    for (const { raw, message } of requests) seen.serverRequests.push(normal(withoutId(raw, message.id)));
    for (const message of this.said) seen.replies.push(normal(JSON.stringify({ ...message, id: ids.get(message.id) ?? 'stray' })));
    // Server requests of the same time may be answered in any order.
    seen.serverRequests.sort();
    seen.replies = seen.replies.map((reply) => reply.replace(/"id":\d+/, '"id":"Q"')).sort();
    for (const { raw, message } of this.heard) {
      if (message.method !== undefined && message.id === undefined) (seen.notifications[message.method] ??= []).push(normal(raw, message));
    }
    if (this.unordered) for (const list of Object.values(seen.notifications)) list.sort();
    return seen;
  }

  async end() {
    if (this.child) this.child.seen = descendants(this.child.pid);
    await within(5000, 'to end the session', (async () => {
      await this.client?.transport?.terminateSession?.();
      await this.client?.close();
    })()).catch((error) => this.errors.push(error.message));
    // What stood under a stdio front has to go with it.
    if (this.child && !(await until(5000, () => alive(this.child.seen).length === 0))) this.errors.push(`left behind:\n${describe(alive(this.child.seen))}`);
  }
}

/** A server request's text with its id put out of the way: a proxy may number requests as it likes. */
function withoutId(raw, id) {
  const own = `"id":${JSON.stringify(id)}`;
  const at = raw.endsWith(`${own}}`) ? raw.lastIndexOf(own) : raw.indexOf(own);
  return at < 0 ? raw : `${raw.slice(0, at)}"id":"Q"${raw.slice(at + own.length)}`;
}

/** The text of a message with all made equal that differs from one run to the next. */
function normal(raw, message) {
  let out = raw
    .replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z/g, 'TIME')
    .replace(/\b\d{1,2}:\d\d:\d\d([\s\u202f][AP]M)?/g, 'CLOCK')
    .replace(/\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/g, 'UUID')
    .replace(/\b[0-9a-f]{32}\b/g, 'TASK')
    .replace(/"(?:blob|data)":"([A-Za-z0-9+/=]{40,})"/g, (whole, base64) => {
      const plain = Buffer.from(base64, 'base64').toString('latin1');
      return plain.includes('created at') ? `"blob":"BASE64 ${plain.replace(/\d{1,2}:\d\d:\d\d([\s\u202f][AP]M)?/, 'CLOCK').replace(/[^ -~]+/g, ' ')}"` : whole;
    });
  // Over HTTP the everything server names the session in its texts.
  out = out.replace(/(for|from) session (undefined|UUID)/gi, '$1 session SESSION').replace(/( - SessionId UUID| from session SESSION)/g, '');
  // And where it has none to name it leaves a blank.
  if (message?.method === 'notifications/message') out = out.replace(/ +"\}/g, '"}');
  // Its simulated logging is random.
  if (message?.method === 'notifications/message' && /level[- ]message/.test(out)) out = out.replace(/"level":"\w+"/, '"level":"RANDOM"').replace(/"data":"\w+[- ]level[- ]message[^"]*"/, '"data":"RANDOM"');
  // The environment is another process's: that it comes through whole is the step's own check.
  if (out.includes('"text":"{\\n  \\"')) out = out.replace(/"text":"\{\\n(?:[^"\\]|\\.)*"/, (env) => `"text":"ENVIRONMENT ${/\\"PATH\\":/.test(env)}"`);
  return out;
}

// ---------------------------------------------------------------------------------------------------- the comparison

async function walkAll(target, noGet, onStep) {
  const walk = new Walk(target, noGet);
  const seen = new Map();
  try {
    for (const [i, [name, seconds, body]] of steps.entries()) {
      if (opts.only && i && !name.includes(opts.only)) continue;
      const observation = await walk.step(name, seconds, body);
      seen.set(name, observation);
      onStep?.(name, observation);
      if (!walk.client?.transport) break;
    }
  } finally {
    await walk.end();
  }
  return { seen, errors: walk.errors, gets: walk.gets };
}

/** Where two texts part, with a little of what stands around it. */
function parting(a = '(nothing)', b = '(nothing)') {
  let i = 0;
  while (i < a.length && a[i] === b[i]) i++;
  const part = (s) => `${i > 60 ? '…' : ''}${s.slice(Math.max(0, i - 60), i + 140)}${s.length > i + 140 ? '…' : ''}`;
  const same = (() => {
    try {
      return canonical(JSON.parse(a)) === canonical(JSON.parse(b)) ? ' (the same JSON, spelt otherwise)' : '';
    } catch {
      return '';
    }
  })();
  return `  direct:  ${part(a)}\n  through: ${part(b)}${same}`;
}

function canonical(value) {
  return JSON.stringify(value, (_, v) => (v && typeof v === 'object' && !Array.isArray(v) ? Object.fromEntries(Object.entries(v).sort()) : v));
}

function differences(direct, through, ignoreNotifications) {
  const out = [];
  const compare = (what, a = [], b = []) => {
    if (a.length !== b.length) out.push(`${what}: ${a.length} directly, ${b.length} through`);
    for (let i = 0; i < Math.max(a.length, b.length); i++) if (a[i] !== b[i]) out.push(`${what}[${i}]\n${parting(a[i], b[i])}`);
  };
  if (direct.error || through.error) out.push(`error: ${direct.error ? `directly: ${direct.error}` : ''} ${through.error ? `through: ${through.error}` : ''}`);
  for (const kind of ['answers', 'serverRequests', 'replies']) compare(kind, direct[kind], through[kind]);
  if (!ignoreNotifications) {
    const methods = new Set([...Object.keys(direct.notifications ?? {}), ...Object.keys(through.notifications ?? {})]);
    for (const method of methods) compare(method, direct.notifications?.[method], through.notifications?.[method]);
  }
  return out.slice(0, 6);
}

/** All notifications of a walk by method, sorted: for clients without a GET stream. */
function allNotifications({ seen }) {
  const all = {};
  for (const { notifications = {} } of seen.values()) for (const [method, list] of Object.entries(notifications)) (all[method] ??= []).push(...list);
  for (const list of Object.values(all)) list.sort();
  return { notifications: all };
}

/** What a server over streamable HTTP says before its client has opened the GET stream is lost on the server's side. */
const EARLY = ['notifications/tools/list_changed', 'notifications/prompts/list_changed', 'notifications/resources/list_changed'];

function withoutEarly(seen) {
  return { ...seen, notifications: Object.fromEntries(Object.entries(seen.notifications ?? {}).filter(([method]) => !EARLY.includes(method))) };
}

function judge(label, direct, through, noGet, early) {
  for (const [name, mine] of direct.seen) {
    const theirs = through.seen.get(name) ?? { error: 'was not reached' };
    const [a, b] = early && name === 'connect' ? [withoutEarly(mine), withoutEarly(theirs)] : [mine, theirs];
    const found = differences(a, b, noGet);
    check(`${label}: ${name}`, found.length === 0, found.join('\n'));
  }
  if (noGet) {
    const [a, b] = [direct, through].map(allNotifications).map((all) => (early ? withoutEarly(all) : all));
    const found = differences(a, b, false);
    check(`${label}: notifications of the whole walk`, found.length === 0, found.join('\n'));
  }
  // This SDK takes an answer that is an error for no answer: if its stream had an event id, it comes back for the rest
  // after a second. What it says when there is none is not for sessile to mend, unless it comes back for ever.
  check(`${label}: the client does not reconnect for ever`, through.gets < 100, `${through.gets} GETs`);
  const harmless = /progress notification for an unknown token|reconnect|operation was aborted/;
  const odd = through.errors.filter((error) => !direct.errors.includes(error) && !harmless.test(error));
  check(`${label}: the client has nothing more to complain of`, odd.length === 0, odd.slice(0, 5).join('\n'));
}

/** What sessile is told for a server by that transport: as arguments, as a command, and as words of a command line. */
async function backend(kind) {
  const quoted = everything.map((word) => `"${word}"`).join(' ');
  if (kind === 'stdio') return { args: [], command: everything, words: `-- ${quoted}` };
  const { url } = await (kind === 'http' ? everythingHttp : everythingSse)();
  return { args: [url], command: [], words: url };
}

run('everything', 240, async () => {
  const targets = opts.through.map((target) => ({ label: target.slice(0, 30), target, noGet: opts['no-get'] }));
  const direct = opts.direct || `stdio: ${everything.map((word) => `"${word}"`).join(' ')}`;
  if (!targets.length) {
    const sessile = opts.sessile || defaultSessile;
    // A server that is reached over HTTP keeps some of its state for all of its sessions: each walk has one of its own.
    const front = async (label, noGet, target) => {
      const { args, command, words } = await backend(opts.backend);
      if (label === 'stdio') return targets.push({ label, noGet, target: `stdio: "${sessile}" stdio ${words}` });
      const proxy = await serve({ sessile, args, command, env: { SESSILE_SECRET: 'not for children' } });
      return targets.push({ label, noGet, target: target(proxy.url) });
    };
    await front('http', false, (url) => url);
    await front('http without GET', true, (url) => url);
    await front('sse', false, (url) => url.replace(/mcp$/, 'sse'));
    await front('stdio', false);
  }
  // At once: most of a walk is waiting for the server's clocks, and each has a server of its own.
  const [base, ...walks] = await Promise.all([walkAll(direct, false), ...targets.map(({ target, noGet }) => walkAll(target, noGet))]);
  if (opts.show) for (const [name, seen] of base.seen) console.log(`--- ${name}\n${JSON.stringify(seen, (_, v) => (typeof v === 'string' ? v.slice(0, 400) : v), 1)}`);
  for (const [name, { error }] of base.seen) if (error) check(`direct: ${name}`, false, error);
  targets.forEach(({ label, noGet }, i) => judge(`${label} to ${opts.backend}`, base, walks[i], noGet, opts.backend === 'http'));
});
