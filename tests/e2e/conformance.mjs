// Runs the conformance suite against a server directly and through sessile, and says where the two differ.
//
//   node tests/e2e/conformance.mjs --direct URL --through URL [--suite VERSION]... [options]
//
//   --direct URL     the server itself; its host must be a loopback one, the DNS-rebinding scenario insists
//   --through URL    the same server behind sessile; one of the two may be left out, then nothing is compared
//   --suite VERSION  0.2.0-alpha.12 or 0.1.16; may be repeated, both if left out
//   --revision DATE  the revision whose requirements 0.2.0-alpha.12 runs (2025-11-25)
//   --allow CHECK    "scenario/check": a check that may be less than a success through sessile; may be repeated
//   --out FOLDER     keeps the suite's own results there; otherwise they are removed
//
// It fails (exit 1) if a check succeeds directly and not through, or fails through and not directly, or if one of the
// scenarios about the HTTP front itself (REQUIRED below) is not clean through; and (exit 2) if a run could not be made.
// A warning counts as not succeeded.
//
// server-sse-polling succeeds in full only if the stream of its call ends before the answer is there. A front that never
// ends one by itself gets there too with `reference-server stdio --late-ms 12000`: the suite hangs up after ten seconds,
// and comes back for the answer.
//
// The suites, and the Node 22 that they need, are installed by npm into the folder that SESSILE_PEERS_DIR names
// (target/peers if unset), under the names in SUITES and NODE. Nothing is installed from here.

import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const SUITES = {
  '0.2.0-alpha.12': { folder: 'conformance-alpha', select: (revision) => ['--requirements', revision] },
  '0.1.16': { folder: 'conformance-stable', select: () => ['--suite', 'all'] },
};
const NODE = 'node22/bin/node';
const REQUIRED = ['dns-rebinding-protection', 'server-sse-polling', 'server-sse-multiple-streams'];
const RUN_TIMEOUT_MS = 10 * 60 * 1000;

const repository = fileURLToPath(new URL('../..', import.meta.url));
const peers = resolve(process.env.SESSILE_PEERS_DIR ?? join(repository, 'target/peers'), 'node_modules');

class Unusable extends Error {}

function readArguments() {
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        direct: { type: 'string' },
        through: { type: 'string' },
        suite: { type: 'string', multiple: true, default: Object.keys(SUITES) },
        revision: { type: 'string', default: '2025-11-25' },
        allow: { type: 'string', multiple: true, default: [] },
        out: { type: 'string' },
      },
    }));
  } catch (error) {
    throw new Unusable(error.message);
  }
  if (!values.direct && !values.through) throw new Unusable('give --direct, --through or both');
  for (const suite of values.suite) {
    if (!SUITES[suite]) throw new Unusable(`unknown suite ${suite}; known: ${Object.keys(SUITES).join(', ')}`);
  }
  return values;
}

/** Runs one suite against one URL; its own judgement (the exit code) is of no interest, its files are. */
async function run(suite, url, revision, out) {
  const program = join(peers, SUITES[suite].folder, 'dist/index.js');
  if (!existsSync(program)) throw new Unusable(`suite ${suite} is not installed (${program})`);
  const node = existsSync(join(peers, NODE)) ? join(peers, NODE) : process.execPath;
  mkdirSync(out, { recursive: true });
  const command = [program, 'server', '--url', url, ...SUITES[suite].select(revision), '--output-dir', out];
  const child = spawn(node, command, { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (said += text));
  const timer = setTimeout(() => child.kill('SIGKILL'), RUN_TIMEOUT_MS);
  const ending = await new Promise((done, fail) => {
    child.once('error', fail);
    child.once('close', (code, signal) => done(signal ?? code));
  });
  clearTimeout(timer);
  const checks = collect(out);
  if (checks.size === 0 || typeof ending === 'string') {
    throw new Unusable(`suite ${suite} against ${url} ended with ${ending}:\n${said.slice(-2000)}`);
  }
  return checks;
}

/** All checks of a run, by "scenario/check". What only records traffic is left out, unless something is wrong in it. */
function collect(out) {
  const checks = new Map();
  for (const folder of readdirSync(out).sort()) {
    const scenario = folder.match(/^server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z$/)?.[1];
    const file = join(out, folder, 'checks.json');
    if (!scenario || !existsSync(file)) continue;
    for (const { id, status, errorMessage, details } of JSON.parse(readFileSync(file, 'utf8'))) {
      if (status === 'INFO' && /^(outgoing-|incoming-|stream-closed)/.test(id)) continue;
      let name = `${scenario}/${id}`;
      for (let again = 2; checks.has(name); again += 1) name = `${scenario}/${id}#${again}`;
      checks.set(name, { scenario, status, message: errorMessage ?? details?.message ?? '' });
    }
  }
  return checks;
}

function summary(checks) {
  const count = (status) => [...checks.values()].filter((check) => check.status === status).length;
  const scenarios = new Set([...checks.values()].map((check) => check.scenario)).size;
  const counts = `${count('SUCCESS')} passed, ${count('FAILURE')} failed, ${count('WARNING')} warned`;
  return `${scenarios} scenarios: ${counts}, ${count('INFO') + count('SKIPPED')} not judged`;
}

/** What went wrong in a run that nothing is compared with. */
function complaints(checks) {
  return [...checks]
    .filter(([, check]) => check.status === 'FAILURE' || check.status === 'WARNING')
    .map(([name, check]) => ({ check: name, status: check.status, message: check.message }));
}

function compare(direct, through, allowed) {
  const absent = { status: 'ABSENT', message: 'the check was not made' };
  const rows = [];
  let worse = 0;
  for (const name of new Set([...direct.keys(), ...through.keys()])) {
    const [before, after] = [direct.get(name) ?? absent, through.get(name) ?? absent];
    if (before.status === after.status) continue;
    const lost = before.status === 'SUCCESS' || after.status === 'FAILURE';
    const outcome = !lost ? 'differs' : allowed.has(name) ? 'allowed' : 'WORSE';
    if (outcome === 'WORSE') worse += 1;
    rows.push({ check: name, direct: before.status, through: after.status, outcome, message: after.message });
  }
  return { rows, worse };
}

/** The scenarios of REQUIRED that are not clean, each with the reason. */
function unclean(checks, allowed) {
  return REQUIRED.flatMap((scenario) => {
    const own = [...checks].filter(([, check]) => check.scenario === scenario);
    const bad = own.filter(([name, { status }]) => !allowed.has(name) && ['FAILURE', 'WARNING'].includes(status));
    if (bad.length > 0) return bad.map(([name, check]) => `${name}: ${check.status} ${check.message}`);
    return own.some(([, check]) => check.status === 'SUCCESS') ? [] : [`${scenario}: nothing in it succeeded`];
  });
}

function printTable(rows) {
  if (rows.length === 0) return;
  const columns = Object.keys(rows[0]);
  const widths = columns.map((column) => Math.max(column.length, ...rows.map((row) => row[column].length)));
  const line = (cells) => '  ' + cells.map((cell, at) => cell.padEnd(widths[at])).join('  ').trimEnd();
  console.log(line(columns));
  for (const row of rows) console.log(line(columns.map((column) => row[column].replaceAll('\n', ' '))));
}

async function main() {
  const options = readArguments();
  const allowed = new Set(options.allow);
  const out = options.out ? resolve(options.out) : mkdtempSync(join(tmpdir(), 'sessile-conformance-'));
  let bad = 0;
  try {
    for (const suite of options.suite) {
      console.log(`conformance ${suite}`);
      const results = {};
      for (const side of ['direct', 'through']) {
        if (!options[side]) continue;
        results[side] = await run(suite, options[side], options.revision, join(out, `${suite}-${side}-${Date.now()}`));
        console.log(`  ${side.padEnd(8)} ${summary(results[side])}`);
      }
      if (results.direct && results.through) {
        const { rows, worse } = compare(results.direct, results.through, allowed);
        printTable(rows);
        bad += worse;
      } else {
        const rows = complaints(results.direct ?? results.through);
        printTable(rows);
        bad += rows.filter((row) => row.status === 'FAILURE' && !allowed.has(row.check)).length;
      }
      const reasons = unclean(results.through ?? results.direct, allowed);
      for (const reason of reasons) console.log(`  required: ${reason}`);
      bad += reasons.length;
    }
  } finally {
    if (!options.out) rmSync(out, { recursive: true, force: true });
  }
  console.log(bad === 0 ? 'nothing is lost' : `${bad} things are worse than they should be`);
  return bad === 0 ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(error instanceof Unusable ? `conformance: ${error.message}` : error);
  process.exitCode = 2;
}
