// One run: a folder for configuration and logs, the processes started for it, and the secrets that were seen in it.
// Closing it ends the processes and reads every log line for secrets.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findSecrets } from './secrets.mjs';

export const root = path.resolve(import.meta.dirname, '..');

// However this process ends, short of SIGKILL, nothing that it started stays behind.
const open = new Set();
process.once('exit', () => open.forEach(run => run.abandon()));
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(1));

/** A TCP port of the loopback address that nobody listens on now. */
export async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await new Promise(resolve => server.once('listening', resolve));
  const { port } = server.address();
  await new Promise(resolve => server.close(resolve));
  return port;
}

/** Whether a URL answers, and with success, within a few seconds. */
export async function answers(url) {
  const response = await fetch(url, { signal: AbortSignal.timeout(5000) });
  await response.arrayBuffer();
  return response.ok;
}

/** Asks again and again until `ask` returns something truthy, and returns that; its last failure when time is up. */
export async function until(what, ask, { seconds = 120, every = 100 } = {}) {
  const end = Date.now() + seconds * 1000;
  for (let failure; ; await sleep(every)) {
    try {
      const answer = await ask();
      if (answer) return answer;
    } catch (error) {
      if (error instanceof Ended) throw error;
      failure = error;
    }
    if (Date.now() > end) throw new Error(`${what}: not within ${seconds} s`, { cause: failure });
  }
}

class Ended extends Error {}

/** A program of a run. Its output goes to a log file of the run's folder. */
class Process {
  #child;

  constructor(name, log, command, args, options) {
    this.name = name;
    this.log = log;
    this.stopSignal = 'SIGTERM';
    this.last = false; // whether it is to end after all others
    const out = fs.openSync(log, 'a');
    this.#child = spawn(command, args, { cwd: root, ...options, stdio: ['ignore', out, out] });
    fs.closeSync(out);
    this.ended = new Promise(resolve => {
      this.#child.once('error', error => resolve(`${command}: ${error.message}`));
      this.#child.once('exit', (code, signal) => resolve(signal ?? code));
    });
    this.ended.then(outcome => (this.outcome = outcome));
  }

  get running() {
    return this.outcome === undefined;
  }

  kill(signal) {
    if (this.running) this.#child.kill(signal);
  }

  /** Waits until `ask` returns something truthy, unless the process ends before. */
  async ready(ask, options) {
    return until(`${this.name} is ready`, () => {
      if (!this.running) throw new Ended(`${this.name} ended with ${this.outcome}:\n${this.tail()}`);
      return ask();
    }, options);
  }

  /** Asks the process to end and returns its exit code, or the name of the signal that it took. */
  async stop(signal = this.stopSignal) {
    this.kill(signal);
    const late = setTimeout(() => this.kill('SIGKILL'), 15_000);
    const outcome = await this.ended;
    clearTimeout(late);
    return outcome;
  }

  tail() {
    return fs.readFileSync(this.log, 'utf8').split('\n').slice(-20).join('\n');
  }
}

export class Run {
  #processes = [];
  #folders = [];
  #secrets = new Set();

  constructor(name) {
    this.dir = path.join(root, '.run', name);
    fs.rmSync(this.dir, { recursive: true, force: true });
    fs.mkdirSync(this.dir, { recursive: true });
    open.add(this);
  }

  /** Makes a folder outside the run's own that is gone when the run is closed, and returns its path. */
  temporary() {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'stagedoor-e2e-'));
    this.#folders.push(folder);
    return folder;
  }

  /** Writes a file of the run and returns its path. Anything but text is written as JSON, which is YAML too. */
  write(name, content) {
    const file = path.join(this.dir, name);
    fs.writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content, null, 2), { mode: 0o600 });
    return file;
  }

  /** Remembers a secret: it must not be in any log when the run is closed. */
  secret(text) {
    this.#secrets.add(text);
    return text;
  }

  start(name, command, args, options) {
    const started = new Process(name, path.join(this.dir, `${name}.log`), command, args, options);
    this.#processes.push(started);
    return started;
  }

  logs() {
    return fs.readdirSync(this.dir).filter(name => name.endsWith('.log')).map(name => path.join(this.dir, name));
  }

  /** Ends everything at once. */
  abandon() {
    for (const started of this.#processes) started.kill('SIGKILL');
    for (const folder of this.#folders) fs.rmSync(folder, { recursive: true, force: true });
    open.delete(this);
  }

  /**
   * Ends everything in good order: each process must end well, and no log may have a secret. All are told at once,
   * since a server waits for those who are connected to it, and the database last.
   */
  async close() {
    const end = async started => {
      const outcome = await started.stop();
      assert.equal(outcome, 0, `${started.name} ended with ${outcome}:\n${started.tail()}`);
    };
    const running = this.#processes.filter(started => started.running);
    try {
      await Promise.all(running.filter(started => !started.last).map(end));
      await Promise.all(running.filter(started => started.last).map(end));
    } finally {
      this.abandon();
    }
    assert.notEqual(this.logs().length, 0);
    for (const log of this.logs()) {
      assert.deepEqual(findSecrets(fs.readFileSync(log, 'utf8'), this.#secrets), [], `secrets in ${log}`);
    }
  }
}
