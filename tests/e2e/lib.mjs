// What the end-to-end tests share: finding the peers, starting sessile and reading its URL line, raw MCP clients over
// HTTP and stdio, process trees as /proc shows them, counting checks. Deliberately no test of its own and no SDK: a
// test that wants the official client takes it with `peer()`.

import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { StringDecoder } from 'node:string_decoder';
import { fileURLToPath } from 'node:url';

export const here = path.dirname(fileURLToPath(import.meta.url));
export const root = path.resolve(here, '../..');
export const peersDir = path.resolve(process.env.SESSILE_PEERS_DIR ?? path.join(root, 'target/peers'));
export const defaultSessile = path.join(root, 'target/release/sessile');

const fromPeers = createRequire(path.join(peersDir, 'package.json'));

/** A module of the peers, such as `@modelcontextprotocol/sdk/client/index.js`. */
export const peer = (specifier) => fromPeers(specifier);
/** A file in the peers' node_modules. */
export const peerFile = (relative) => path.join(peersDir, 'node_modules', relative);

export const everythingJs = peerFile('@modelcontextprotocol/server-everything/dist/index.js');
export const playwrightJs = peerFile('@playwright/mcp/cli.js');
export const askerJs = path.join(here, 'asker.mjs');
export const tinySh = path.join(here, 'tiny.sh');

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
export const now = () => performance.now();

/** Rejects when `promise` takes longer than `ms`. */
export function within(ms, what, promise) {
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing after ${ms} ms`)), ms);
  });
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}

/** Asks until the answer is truthy; the last answer when the time is over. */
export async function until(ms, ask, every = 50) {
  const end = now() + ms;
  for (;;) {
    const answer = await ask();
    if (answer || now() > end) return answer;
    await sleep(every);
  }
}

/** `n` at a time. */
export async function pool(n, items, work) {
  const queue = items[Symbol.iterator]();
  const one = async () => {
    for (const item of queue) await work(item);
  };
  await Promise.all(Array.from({ length: n }, one));
}

/**
 * `--name value`, `--flag`, and everything after `--` as `rest`. Names in `lists` may stand more than once. A flag is a
 * name in `flags`; anything not named is refused, so that a misspelt option cannot quietly test something else.
 */
export function options({ values = {}, flags = [], lists = [] }, argv = process.argv.slice(2)) {
  const out = { ...values, rest: [] };
  for (const name of flags) out[name] = false;
  for (const name of lists) out[name] = [];
  for (let i = 0; i < argv.length; i++) {
    if (argv[i] === '--') {
      out.rest = argv.slice(i + 1);
      break;
    }
    const name = argv[i].replace(/^--/, '');
    if (flags.includes(name)) out[name] = true;
    else if (lists.includes(name)) out[name].push(argv[++i]);
    else if (name in values) out[name] = typeof values[name] === 'number' ? Number(argv[++i]) : argv[++i];
    else {
      console.error(`unknown option ${argv[i]}; there are: ${[...Object.keys(values), ...flags, ...lists].map((n) => `--${n}`).join(' ')}`);
      process.exit(2);
    }
    if (out[name] === undefined || Number.isNaN(out[name])) {
      console.error(`--${name} needs a value`);
      process.exit(2);
    }
  }
  return out;
}

// ---------------------------------------------------------------------------------------------------------- checks

let passed = 0;
let failed = 0;

/** Counts and prints one check. `detail` is printed when it failed; it may be a function. */
export function check(name, good, detail = '') {
  if (good) passed++;
  else failed++;
  console.log(`${good ? 'ok  ' : 'FAIL'} ${name}`);
  if (!good) {
    const text = typeof detail === 'function' ? detail() : detail;
    if (text) console.log(String(text).replace(/^/gm, '     '));
  }
  return Boolean(good);
}

/** Ends the script with the line that run.sh adds up. */
export function finish(name) {
  console.log(`${name}: ${passed} passed, ${failed} failed`);
  process.exit(failed || !passed ? 1 : 0);
}

/** Runs `main`, whatever it throws is a failed check, and it never takes longer than `seconds`. */
export function run(name, seconds, main) {
  const late = setTimeout(() => {
    check(`${name} ends within ${seconds} s`, false);
    finish(name);
  }, seconds * 1000);
  late.unref();
  Promise.resolve()
    .then(main)
    .catch((error) => check(`${name} runs to its end`, false, error?.stack ?? error))
    .finally(() => finish(name));
}

// ------------------------------------------------------------------------------------------------------- processes

/** What /proc says of one process: `{pid, ppid, state, start, comm}`; null when there is none. */
export function statOf(pid) {
  let text;
  try {
    text = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return null;
  }
  // The name stands in parentheses and may itself hold blanks and parentheses.
  const end = text.lastIndexOf(')');
  const rest = text.slice(end + 2).split(' ');
  return { pid: Number(pid), comm: text.slice(text.indexOf('(') + 1, end), state: rest[0], ppid: Number(rest[1]), start: rest[19] };
}

export function allProcesses() {
  const all = [];
  for (const name of fs.readdirSync('/proc')) {
    if (name.charCodeAt(0) < 48 || name.charCodeAt(0) > 57) continue;
    const stat = statOf(name);
    if (stat) all.push(stat);
  }
  return all;
}

/** All descendants of `pid`, zombies too, without itself. */
export function descendants(pid, all = allProcesses()) {
  const children = new Map();
  for (const p of all) {
    if (!children.has(p.ppid)) children.set(p.ppid, []);
    children.get(p.ppid).push(p);
  }
  const found = [];
  const open = [pid];
  while (open.length) {
    for (const p of children.get(open.pop()) ?? []) {
      found.push(p);
      open.push(p.pid);
    }
  }
  return found;
}

/** Those of `processes` that are still there: same pid and same start, zombies that wait for somebody else's wait not counted. */
export function alive(processes) {
  return processes.filter((p) => {
    const stat = statOf(p.pid);
    return stat && stat.start === p.start && stat.state !== 'Z';
  });
}

export function commandOf(pid) {
  try {
    return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
  } catch {
    return '';
  }
}

/** One variable of a process's environment at its start. */
export function environmentOf(pid) {
  try {
    return Object.fromEntries(
      fs
        .readFileSync(`/proc/${pid}/environ`, 'utf8')
        .split('\0')
        .filter(Boolean)
        .map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]),
    );
  } catch {
    return {};
  }
}

export const describe = (processes) => processes.map((p) => `${p.pid} ${p.state} ${commandOf(p.pid).slice(0, 100) || p.comm}`).join('\n');

/** `{rss (KB), threads, fds}` of a process. */
export function usage(pid) {
  const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
  const field = (name) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1]);
  return { rss: field('VmRSS'), threads: field('Threads'), fds: fs.readdirSync(`/proc/${pid}/fd`).length };
}

const started = new Set();

/** `child_process.spawn`, with the promise that whatever is left of its tree is killed when this script ends. */
export function start(command, args, opts = {}) {
  return adopt(spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...opts }));
}

/** The same promise for a child that somebody else spawned, such as the SDK. */
export function adopt(child) {
  started.add(child);
  child.seen = [];
  child.ended = new Promise((resolve) => {
    child.on('error', (error) => resolve({ error }));
    child.on('exit', (code, signal) => resolve({ code, signal }));
  });
  return child;
}

/** Kills `pid` and all below it; those that run away while we look are found by looking again. */
export function killTree(pid, remembered = []) {
  for (let round = 0; round < 3; round++) {
    const tree = alive(descendants(pid));
    for (const p of [...alive(remembered), ...tree]) tryKill(p.pid);
    if (statOf(pid)?.state !== 'Z') tryKill(pid);
    if (!tree.length) break;
  }
}

function tryKill(pid, signal = 'SIGKILL') {
  try {
    process.kill(pid, signal);
  } catch {
    // It is gone already.
  }
}

function cleanUp() {
  for (const child of started) {
    // A child that has been waited for has given its pid back: somebody else may have it now.
    if (child.exitCode === null && child.signalCode === null && child.pid) killTree(child.pid, child.seen);
    else for (const p of alive(child.seen)) tryKill(p.pid);
  }
}

process.on('exit', cleanUp);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(130));
process.on('unhandledRejection', (error) => {
  check('no unhandled rejection', false, error?.stack ?? error);
});

export async function freePort() {
  const server = net.createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

// --------------------------------------------------------------------------------------------------------- sessile

/**
 * Starts `sessile serve` on a free port and waits for the line with its URL.
 * Gives `{url, pid, child, log(), tree(), stop(signal)}`.
 */
export async function serve({ sessile = defaultSessile, args = [], command = [], env = {}, cwd, ms = 15_000 }) {
  const line = ['serve', '--listen', '127.0.0.1:0', ...args, ...(command.length ? ['--', ...command] : [])];
  const child = start(path.resolve(sessile), line, { cwd, env: { ...process.env, ...env } });
  // Only the end of what it says is kept: a storm logs a lot.
  let log = '';
  const url = new Promise((resolve, reject) => {
    const hear = (chunk) => {
      log = (log + chunk).slice(-65_536);
      const found = /https?:\/\/\S+?\/mcp\b/.exec(log);
      if (found) resolve(found[0]);
    };
    child.stderr.setEncoding('utf8').on('data', hear);
    child.stdout.setEncoding('utf8').on('data', hear);
    child.ended.then((how) => reject(new Error(`sessile ended before it listened: ${JSON.stringify(how)}\n${log}`)));
  });
  const proxy = {
    url: await within(ms, 'the URL line of sessile', url),
    pid: child.pid,
    child,
    log: () => log,
    tree: () => descendants(child.pid),
    /** Sends the signal and waits for the end; how it ended. */
    async stop(signal = 'SIGTERM', limit = 15_000) {
      child.seen.push(...descendants(child.pid));
      child.kill(signal);
      return within(limit, `sessile to end after ${signal}`, child.ended);
    },
  };
  return proxy;
}

/** The everything server in its own streamable HTTP mode. */
export const everythingHttp = (env) => everythingAt('streamableHttp', 'mcp', env);
/** The everything server in its own HTTP+SSE mode. */
export const everythingSse = (env) => everythingAt('sse', 'sse', env);

async function everythingAt(mode, path, env = {}) {
  const port = await freePort();
  // As sessile starts its servers: without what is sessile's own.
  const others = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('SESSILE_')));
  const child = start(process.execPath, [everythingJs, mode], { env: { ...others, ...env, PORT: String(port) } });
  child.stdout.resume();
  await within(15_000, 'the everything server', new Promise((resolve, reject) => {
    child.stderr.setEncoding('utf8').on('data', (text) => /listening|running on/.test(text) && resolve());
    child.ended.then((how) => reject(new Error(`it ended: ${JSON.stringify(how)}`)));
  }));
  return { url: `http://127.0.0.1:${port}/${path}`, pid: child.pid, child };
}

// ----------------------------------------------------------------------------------------------------- raw clients

/** An SSE parser: give it text, it calls back with `{event, id, data, retry}`. */
export function sseParser(onEvent) {
  let rest = '';
  let event = {};
  return (text) => {
    rest += text;
    let end;
    while ((end = rest.search(/\r\n|\n|\r(?=.)/)) >= 0) {
      const line = rest.slice(0, end);
      rest = rest.slice(end + (rest.startsWith('\r\n', end) ? 2 : 1));
      if (line === '') {
        if (Object.keys(event).length) onEvent(event);
        event = {};
      } else if (!line.startsWith(':')) {
        const colon = line.indexOf(':');
        const field = colon < 0 ? line : line.slice(0, colon);
        const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
        event[field] = field === 'data' && 'data' in event ? `${event.data}\n${value}` : value;
      }
    }
  };
}

/** What both raw clients do with what they receive: match answers, hand out requests and notifications. */
class RawClient {
  constructor({ capabilities = {}, clientInfo = { name: 'sessile-e2e', version: '1' }, protocolVersion = '2025-11-25', onRequest, onNotification } = {}) {
    this.hello = { protocolVersion, capabilities, clientInfo };
    this.onRequest = onRequest;
    this.onNotification = onNotification;
    this.waiting = new Map();
    this.strays = 0;
    this.nextId = 1;
  }

  receive(message) {
    for (const one of Array.isArray(message) ? message : [message]) {
      if (one.method !== undefined && one.id !== undefined) this.answer(one);
      else if (one.method !== undefined) this.onNotification?.(one);
      else if (this.waiting.has(one.id)) {
        this.waiting.get(one.id).resolve(one);
        this.waiting.delete(one.id);
      } else this.strays++; // An answer to nothing we asked, or a second one.
    }
  }

  async answer(request) {
    let reply;
    try {
      if (request.method === 'ping') reply = { result: {} };
      else if (!this.onRequest) reply = { error: { code: -32601, message: 'not supported by this client' } };
      else reply = { result: await this.onRequest(request) };
    } catch (error) {
      reply = { error: { code: -32603, message: String(error?.message ?? error) } };
    }
    await this.post({ jsonrpc: '2.0', id: request.id, ...reply }).catch((error) => this.fail?.(error));
  }

  /** Sends a request; gives the whole answer, `{result}` or `{error}`. */
  async ask(method, params, ms = 30_000, id = this.nextId++) {
    const answer = new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
    answer.catch(() => {});
    try {
      await this.post({ jsonrpc: '2.0', id, method, ...(params === undefined ? {} : { params }) }, id);
      return await within(ms, method, answer);
    } finally {
      this.waiting.delete(id);
    }
  }

  /** As `ask`, but the result only. */
  async call(method, params, ms) {
    const answer = await this.ask(method, params, ms);
    if (answer.error) throw Object.assign(new Error(`${method}: ${JSON.stringify(answer.error)}`), { rpc: answer.error });
    return answer.result;
  }

  tell(method, params) {
    return this.post({ jsonrpc: '2.0', method, ...(params === undefined ? {} : { params }) });
  }

  async open() {
    this.initializeResult = await this.call('initialize', this.hello);
    await this.tell('notifications/initialized');
    return this.initializeResult;
  }
}

/** A raw streamable HTTP client of the handshake era. `get: true` opens the GET stream after the handshake. */
export class HttpClient extends RawClient {
  constructor(url, { get = false, headers = {}, ...rest } = {}) {
    super(rest);
    this.url = new URL(url);
    this.headers = headers;
    this.get = get;
    this.agent = new http.Agent({ keepAlive: true });
    this.sockets = new Set();
  }

  /** One HTTP exchange; resolves with the response as soon as its head is there. */
  exchange(method, body, extra = {}) {
    return new Promise((resolve, reject) => {
      const headers = { ...this.headers, ...extra };
      if (this.session) headers['mcp-session-id'] = this.session;
      if (this.initializeResult) headers['mcp-protocol-version'] = this.initializeResult.protocolVersion;
      if (body !== undefined) {
        body = Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
        headers['content-type'] = 'application/json';
        headers['content-length'] = body.length;
      }
      const request = http.request(this.url, { method, headers, agent: this.agent }, resolve);
      request.on('error', reject);
      request.on('socket', (socket) => this.sockets.add(socket));
      request.end(body);
    });
  }

  async post(message, id) {
    const response = await this.exchange('POST', message, { accept: 'application/json, text/event-stream' });
    this.session = response.headers['mcp-session-id'] ?? this.session;
    const type = response.headers['content-type'] ?? '';
    if (response.statusCode >= 300) {
      const text = await readAll(response);
      throw Object.assign(new Error(`HTTP ${response.statusCode}: ${text.slice(0, 500)}`), { status: response.statusCode, headers: response.headers, text });
    }
    if (type.startsWith('text/event-stream')) this.listen(response, id);
    else {
      const text = await readAll(response);
      if (type.startsWith('application/json') && text) this.receive(JSON.parse(text));
    }
  }

  /** Reads a stream to its end. An answer that never comes is a failure of its caller. */
  listen(response, id) {
    const parse = sseParser((event) => event.data && this.receive(JSON.parse(event.data)));
    response.setEncoding('utf8').on('data', parse);
    const over = (error) => this.waiting.get(id)?.reject(new Error(`the stream of ${id} ended without an answer${error ? `: ${error.message}` : ''}`));
    response.on('end', () => over());
    response.on('error', over);
    response.on('aborted', () => over(new Error('aborted')));
  }

  async open() {
    const initializeResult = await super.open();
    if (this.get) {
      const response = await this.exchange('GET', undefined, { accept: 'text/event-stream' });
      if (response.statusCode !== 200) throw new Error(`GET: HTTP ${response.statusCode}: ${await readAll(response)}`);
      this.listen(response);
    }
    return initializeResult;
  }

  /** Ends the session with DELETE; the status. */
  async close() {
    const response = await this.exchange('DELETE');
    await readAll(response);
    this.vanish();
    return response.statusCode;
  }

  /** Leaves without a word. */
  vanish() {
    for (const socket of this.sockets) socket.destroy();
    this.agent.destroy();
  }
}

/** A raw stdio client with a child process of its own. */
export class StdioClient extends RawClient {
  constructor(command, { env = {}, ...rest } = {}) {
    super(rest);
    this.child = start(command[0], command.slice(1), { stdio: ['pipe', 'pipe', 'ignore'], env: { ...process.env, ...env } });
    this.child.stdin.on('error', () => {});
    lines(this.child.stdout, (line) => this.receive(JSON.parse(line)));
    this.child.ended.then(() => {
      for (const { reject } of this.waiting.values()) reject(new Error('the server ended'));
    });
  }

  async post(message) {
    this.child.stdin.write(`${typeof message === 'string' ? message : JSON.stringify(message)}\n`);
  }

  async close() {
    this.child.stdin.end();
    return within(10_000, 'the server to end', this.child.ended);
  }
}

/** Calls back with each line of a stream. Chunks are kept apart until a line is whole: one line may be 20 MB. */
export function lines(stream, onLine) {
  let parts = [];
  // Not setEncoding: others may read the same stream, and want its bytes.
  const decoder = new StringDecoder('utf8');
  stream.on('data', (bytes) => {
    const chunk = decoder.write(bytes);
    let from = 0;
    let end;
    while ((end = chunk.indexOf('\n', from)) >= 0) {
      parts.push(chunk.slice(from, end));
      from = end + 1;
      const line = parts.join('').replace(/\r$/, '');
      parts = [];
      if (line) onLine(line);
    }
    if (from < chunk.length) parts.push(chunk.slice(from));
  });
}

export async function readAll(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return typeof parts[0] === 'string' ? parts.join('') : Buffer.concat(parts).toString('utf8');
}

/** `p50`, `p99` and so on, of numbers. */
export function quantile(numbers, q) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] : NaN;
}
