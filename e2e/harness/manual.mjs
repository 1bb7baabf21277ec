// The files and commands that docs/install.md shows, so that what it says is what is run: every fenced block whose
// first line names it, as in "```yaml stagedoor.yaml".

import fs from 'node:fs';
import path from 'node:path';
import { root } from './run.mjs';

/** The blocks by name. `addresses` says what to write for the manual's own ports: {7007: 40123}. */
export function manual(addresses) {
  const text = fs.readFileSync(path.join(root, '../docs/install.md'), 'utf8');
  const blocks = [...text.matchAll(/^```\w+ (\S+)\n(.*?)^```$/gms)];
  const readdressed = block => block.replace(/127\.0\.0\.1:(700\d)/g, (_, port) => `127.0.0.1:${addresses[port]}`);
  return Object.fromEntries(blocks.map(([, name, block]) => [name, readdressed(block)]));
}
