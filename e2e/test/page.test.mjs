// The page of `stagedoor matrix --format html` in a real browser, for 5,000 people of whom no two may do the same: it is
// drawn, filtered and sorted at once, and axe-core finds nothing, light and dark, on a screen and on a phone.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';
import { binary } from '../harness/stagedoor.mjs';

const people = 5000;
const permissions = 20; // so that 13 of them are enough to tell 5,000 people apart
const nameOf = i => `user:default/user-${String(i).padStart(4, '0')}`;

const policy = `package page

import data.backstage.catalog

# METADATA
# entrypoint: true
default allow := false

allow if data.page.grants[input.permission.name][input.identity.user]

allow if {
	input.permission.resourceType == "catalog-entity"
	catalog.is_entity_owner(input.resource, {"claims": input.identity.claims})
}
`;

function writeCompany(dir) {
  const write = (name, value) => {
    fs.mkdirSync(path.dirname(path.join(dir, name)), { recursive: true });
    fs.writeFileSync(path.join(dir, name), typeof value === 'string' ? value : JSON.stringify(value));
  };
  const all = [...Array(people).keys()];
  const grants = {}, published = [];
  for (let bit = 0; bit < permissions; bit++) {
    const name = `thing.number${bit}.use`;
    published.push({ name, type: 'basic', attributes: {}, pluginId: bit % 2 ? 'odd' : 'even' });
    grants[name] = Object.fromEntries(all.filter(i => i & (1 << bit)).map(i => [nameOf(i), true]));
  }
  published.push({
    name: 'catalog.entity.delete', type: 'resource', attributes: { action: 'delete' }, resourceType: 'catalog-entity', pluginId: 'catalog',
  });
  write('policy/.manifest', { roots: ['page'] });
  write('policy/policy.rego', policy);
  write('policy/data.json', { page: { grants } });
  write('company/permissions.json', published);
  write('company/people.json', Object.fromEntries(all.map(i => [nameOf(i), { claims: [nameOf(i), 'group:default/all'] }])));
}

const looks = {
  'light': { colorScheme: 'light', viewport: { width: 1280, height: 900 } },
  'dark': { colorScheme: 'dark', viewport: { width: 1280, height: 900 } },
  'on a phone': { colorScheme: 'light', viewport: { width: 390, height: 844 } },
  'on a phone, dark': { colorScheme: 'dark', viewport: { width: 390, height: 844 } },
};

describe('the page of a matrix', () => {
  let dir, file, browser;

  before(async () => {
    dir = fs.mkdtempSync(path.join(os.tmpdir(), 'stagedoor-page-'));
    writeCompany(dir);
    file = path.join(dir, 'page.html');
    fs.writeFileSync(file, execFileSync(binary, ['matrix', 'policy', '--inventory', 'company', '--format', 'html'], {
      cwd: dir, maxBuffer: 64 << 20, stdio: ['ignore', 'pipe', 'inherit'],
    }));
    browser = await chromium.launch({
      executablePath: process.env.CHROMIUM_BIN ?? '/usr/bin/chromium',
      args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
        '--disable-component-update', '--disable-sync'],
    });
  });

  after(async () => {
    await browser?.close();
    fs.rmSync(dir, { recursive: true, force: true });
  });

  test('is small', () => {
    assert.ok(fs.statSync(file).size < 2 << 20, `${fs.statSync(file).size} bytes`);
  });

  for (const [name, look] of Object.entries(looks)) {
    test(name, async () => {
      const page = await browser.newPage({ ...look, bypassCSP: true }); // for axe alone
      const errors = [];
      page.on('pageerror', error => errors.push(String(error)));
      page.on('console', message => message.type() === 'error' && errors.push(message.text()));
      page.on('request', request => request.url().startsWith('file:') || errors.push(request.url()));
      page.setDefaultTimeout(20_000);
      await page.goto(pathToFileURL(file).href);
      await page.addScriptTag({ path: createRequire(import.meta.url).resolve('axe-core/axe.min.js') });
      // What is opened is drawn a moment later.
      const has = async (locator, n) => {
        await locator.nth(n - 1).waitFor();
        assert.equal(await locator.count(), n);
      };
      const said = () => page.locator('#count').textContent();
      const clean = async what => {
        const { violations } = await page.evaluate(() => globalThis.axe.run());
        assert.deepEqual(violations.map(v => [v.id, v.nodes.map(n => n.html)]), [], what);
        assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), 0, `${what}: as wide as the window`);
      };

      await clean('permissions');
      const first = page.locator('#rows tr', { hasText: 'thing.number12.use' }).filter({ hasText: 'ALLOW' });
      assert.match(await first.textContent(), /904 people/); // those from 4,096 on
      await first.locator('summary').click();
      await has(first.locator('li'), 100);
      await first.getByRole('button', { name: 'Show more of 904' }).click();
      await has(first.locator('li'), 200);
      await clean('permissions, one opened');

      await page.selectOption('#view', 'callers');
      assert.match(await said(), /^5,00\d groups of callers/);
      await has(page.locator('#rows tr'), 200);
      await page.locator('#more').click();
      await has(page.locator('#rows tr'), 400);
      await page.fill('#text', 'user-4242');
      assert.match(await said(), /^1 group of callers/);
      await page.locator('#rows summary').click();
      await page.locator('#rows li', { hasText: /^\s*ALLOW/ }).first().waitFor();
      await page.locator('#rows li', { hasText: /^\s*CONDITIONAL/ }).first().waitFor();
      const may = await page.locator('#rows li').allTextContents();
      assert.equal(may.find(line => line.startsWith('ALLOW')).match(/number/g).length, 4); // the bits of 4,242
      assert.ok(may.some(line => line.startsWith('CONDITIONAL owned by the caller or a group of the caller: catalog.entity.delete')));
      await clean('callers');

      await page.selectOption('#view', 'permissions');
      await page.selectOption('#result', 'ALLOW');
      assert.match(await said(), /^4 lines/);
      await page.fill('#text', '');
      await page.selectOption('#order', 'people');
      const counts = (await page.locator('#rows tr').allTextContents()).map(line => Number(line.match(/([\d,]+) people/)[1].replace(',', '')));
      assert.deepEqual(counts, counts.toSorted((a, b) => b - a));
      await page.close();
      assert.deepEqual(errors, []);
    });
  }
});
