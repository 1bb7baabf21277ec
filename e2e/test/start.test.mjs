// What `npm start` says to type works, and nothing of it stays when it ends.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { answers, freePort, root, Run } from '../harness/run.mjs';
import { startStagedoor } from '../harness/stagedoor.mjs';

describe('npm start', () => {
  let run, backstage, said;

  before(async () => {
    run = new Run('start');
    const ports = { backstage: await freePort(), stagedoor: await freePort() };
    const permission = `http://127.0.0.1:${ports.stagedoor}/api/permission`;
    const args = [path.join(root, 'start.mjs'), '--port', ports.backstage, '--permission', permission];
    backstage = run.start('npm-start', process.execPath, args);
    said = () => fs.readFileSync(backstage.log, 'utf8');
    await backstage.ready(() => said().includes('Ctrl-C'));
    await startStagedoor(run, { port: ports.stagedoor, baseUrl: `http://127.0.0.1:${ports.backstage}` });
  });
  after(() => run.close());

  test('ann signs in and reads by the lines that it prints', () => {
    const lines = said().match(/^TOKEN=.*?^curl [^\n]*$/ms)[0];
    const items = JSON.parse(execFileSync('sh', ['-ec', lines], { encoding: 'utf8' }));
    assert.equal(items.length, 5);
  });

  test('Ctrl-C ends the backend too', async () => {
    const { baseUrl } = said().match(/Backstage is at (?<baseUrl>\S+),/).groups;
    await backstage.stop('SIGINT');
    await assert.rejects(answers(`${baseUrl}/.backstage/health/v1/readiness`));
  });
});
