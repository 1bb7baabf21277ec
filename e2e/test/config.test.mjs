// What the files of testdata/appconfig say that Backstage makes of a configuration is what the published loader makes of
// it, and what testdata/origins.json says of patterns is what minimatch does with Backstage's options. The Go tests hold
// stagedoor to the same files. `node test/config.test.mjs --record` writes them anew.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';

const require = createRequire(import.meta.resolve('@backstage/backend-defaults'));
const { ConfigSources } = require('@backstage/config-loader');
const { Minimatch } = require('minimatch');

const record = process.argv.includes('--record');
const folder = path.resolve(import.meta.dirname, '../../testdata/appconfig');
const read = JSON.parse(fs.readFileSync(path.join(folder, 'read.json'), 'utf8'));

/** The files of a txtar archive by name. */
function sections(text) {
  const parts = text.split(/^-- (.+) --\n/m);
  const files = {};
  for (let i = 1; i < parts.length; i += 2) files[parts[i]] = parts[i + 1];
  return files;
}

/** Lines of NAME=value, or of NAME: "value" with the value in JSON. */
function environment(text = '') {
  return text.split('\n').filter(Boolean).map(line => {
    const [, name, separator, value] = line.match(/^(\w[\w-]*)(=|: )(.*)$/);
    return [name, separator === '=' ? value : JSON.parse(value)];
  });
}

/** Of a value only what the tree of keys reads. */
function pick(value, keys) {
  if (keys === null || typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(one => pick(one, keys));
  return Object.fromEntries(Object.entries(value).filter(([key]) => key in keys).map(([key, one]) => [key, pick(one, keys[key])]));
}

async function load(files) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'stagedoor-config-'));
  const names = files.files.split('\n').filter(Boolean);
  const env = environment(files.env);
  const before = { ...process.env };
  try {
    for (const [name, text] of Object.entries(files)) {
      if (['files', 'env', 'difference', 'backstage.json', 'stagedoor.json'].includes(name)) continue;
      fs.mkdirSync(path.dirname(path.join(dir, name)), { recursive: true });
      fs.writeFileSync(path.join(dir, name), text);
    }
    for (const [name, value] of env) process.env[name] = value;
    const argv = names.flatMap(name => ['--config', path.join(dir, name)]);
    const config = await ConfigSources.toConfig(ConfigSources.default({ argv, watch: false, env: Object.fromEntries(env) }));
    config.close();
    return pick(config.getOptional() ?? {}, read);
  } catch (error) {
    return { error: true };
  } finally {
    for (const [name] of env) delete process.env[name];
    Object.assign(process.env, before);
    fs.rmSync(dir, { recursive: true });
  }
}

test('configuration files', async t => {
  const names = fs.readdirSync(folder).filter(name => name.endsWith('.txtar'));
  assert(names.length >= 60);
  for (const name of names) {
    const file = path.join(folder, name);
    const text = fs.readFileSync(file, 'utf8');
    const files = sections(text);
    const answer = await load(files);
    if (record) {
      const kept = text.replace(/^-- backstage\.json --\n.*\n/m, '');
      fs.writeFileSync(file, `${kept}-- backstage.json --\n${JSON.stringify(answer)}\n`);
      continue;
    }
    await t.test(name, () => assert.deepEqual(JSON.parse(JSON.stringify(answer)), JSON.parse(files['backstage.json'])));
  }
});

test('origins', async t => {
  const file = path.resolve(folder, '../origins.json');
  const cases = JSON.parse(fs.readFileSync(file, 'utf8'));
  assert(cases.length >= 60);
  for (const one of cases) {
    let matcher;
    try {
      matcher = new Minimatch(one.pattern, { nocase: true, noglobstar: true });
    } catch {
      matcher = { match: () => false };
    }
    const matched = Object.fromEntries(Object.keys(one.origins).map(origin => [origin, matcher.match(origin)]));
    if (record) one.origins = matched;
    else await t.test(one.pattern, () => assert.deepEqual(matched, one.origins));
  }
  if (record) fs.writeFileSync(file, `[\n${cases.map(one => JSON.stringify(one)).join(',\n')}\n]\n`);
});
