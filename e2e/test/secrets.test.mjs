// The search for secrets that ends every run would be worth nothing if it found nothing.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findSecrets } from '../harness/secrets.mjs';

const token = 'eyJ0eXAiOiJ2bmQuYmFja3N0YWdlLnVzZXIifQ.eyJzdWIiOiJ1c2VyOmRlZmF1bHQvYW5uIn0.c2lnbmF0dXJlLW9mLWFubg';

const lines = {
  'a whole token': `{"msg":"verify ${token}"}`,
  'the payload of a token': `{"msg":"claims eyJzdWIiOiJ1c2VyOmRlZmF1bHQvYW5uIn0"}`,
  'the signature of a token that was seen': '{"msg":"bad signature c2lnbmF0dXJlLW9mLWFubg"}',
  'an authorization header in JSON': '{"headers":{"Authorization": "secret"}}',
  'an authorization header as text': 'authorization: Basic abc',
  'a bearer of any shape': 'sent Bearer 0123456789abcdef',
  'a key in PEM': '-----BEGIN PRIVATE KEY-----',
  'a private JWK': '{"kty":"EC","d":"xUPNPZhHzjbM2RUhUNmvSQ1sK0mC0gEe"}',
};

for (const [what, line] of Object.entries(lines)) {
  test(`${what} is found`, () => assert.notDeepEqual(findSecrets(line, [token]), []));
}

test('an ordinary line has none', () => {
  const line = '{"level":"info","msg":"authorize","user":"user:default/ann","error":"no bearer token","kid":"e2e"}';
  assert.deepEqual(findSecrets(line, [token]), []);
});
