// The conformance suite's `client` mode: its scenarios are servers, and what is tested is their client. Runs the official
// TypeScript client alone, and the same client behind sessile, whose backend the suite then is; sessile must not do worse.
//
//   node tests/e2e/conformance_client.mjs [--sessile PATH] [--revision 2025-11-25] [--only SCENARIO]... [--no-login]
//
// Its scenarios about logging in are run with sessile as the one who logs in; in those, nothing may fail.
//
// What the suite calls `core` is run at the revision's wire. Every check that is a success for the client alone must be one
// behind sessile; `sse-retry`, which is about who comes back for a stream and when, is then a test of sessile's own backend.

import { mkdtempSync, readdirSync, readFileSync, rmSync, existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { check, defaultSessile, here, options, peerFile, run, start, within } from './lib.mjs';

const opts = options({ values: { sessile: defaultSessile, revision: '2025-11-25' }, lists: ['only'], flags: ['no-login'] });
const node22 = existsSync(peerFile('node22/bin/node')) ? peerFile('node22/bin/node') : process.execPath;
const suite = peerFile('conformance-alpha/dist/index.js');
const client = join(here, 'suite_client.mjs');

async function scenarios(kind, command, selection) {
  const out = mkdtempSync(join(tmpdir(), 'sessile-suite-'));
  const args = [suite, 'client', '--command', command, ...selection, '--spec-version', opts.revision, '--output-dir', out];
  const child = start(node22, args, { env: process.env });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (said += text));
  await within(240_000, `the suite (${kind})`, child.ended);
  const checks = new Map();
  // The scenarios about logging in have a folder of their own.
  const folders = readdirSync(out).flatMap((folder) => (folder === 'auth' ? readdirSync(join(out, folder)).map((inner) => join(folder, inner)) : [folder]));
  for (const folder of folders.sort()) {
    const scenario = folder.replace(/-\d{4}-\d\d-\d\dT[\d-]+Z$/, '');
    const file = join(out, folder, 'checks.json');
    if (!existsSync(file)) continue;
    for (const { id, status, errorMessage, details } of JSON.parse(readFileSync(file, 'utf8'))) {
      if (status === 'INFO') continue;
      let name = `${scenario}/${id}`;
      for (let again = 2; checks.has(name); again += 1) name = `${scenario}/${id}#${again}`;
      const stderr = join(out, folder, 'stderr.txt');
      const detail = `${status} ${errorMessage ?? ''} ${JSON.stringify(details ?? {}).slice(0, 800)}\n${existsSync(stderr) ? readFileSync(stderr, 'utf8').slice(-1500) : ''}`;
      checks.set(name, { status, detail });
    }
  }
  if (!checks.size) throw new Error(`the suite made no checks:\n${said.slice(-3000)}`);
  rmSync(out, { recursive: true, force: true });
  return checks;
}

run('conformance_client', 600, async () => {
  const selections = opts.only.length ? opts.only.map((one) => ['--scenario', one]) : [['--suite', 'core']];
  for (const selection of selections) {
    const direct = await scenarios('direct', `${process.execPath} ${client}`, selection);
    const through = await scenarios('through', `${process.execPath} ${client} --sessile ${opts.sessile}`, selection);
    const names = [...direct].filter(([, { status }]) => status === 'SUCCESS').map(([name]) => name);
    check(`the client alone passes something (${names.length} of ${direct.size})`, names.length > 0, () => JSON.stringify([...direct]));
    for (const name of names) check(name, through.get(name)?.status === 'SUCCESS', through.get(name)?.detail ?? 'the check was not made');
    for (const [name, { status, detail }] of through) {
      if (status === 'FAILURE' && direct.get(name)?.status !== 'FAILURE') check(`${name} does not fail`, false, detail);
    }
  }
  if (opts['no-login'] || opts.only.length) return;
  const logins = await scenarios('login', `${process.execPath} ${client} --sessile ${opts.sessile}`, ['--suite', 'auth']);
  const good = [...logins.values()].filter(({ status }) => status === 'SUCCESS').length;
  check(`logging in passes something (${good} of ${logins.size})`, good > 100);
  for (const [name, { status, detail }] of logins) if (status === 'FAILURE' || status === 'WARNING') check(name, false, detail);
});
