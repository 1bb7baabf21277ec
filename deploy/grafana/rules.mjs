// Prints the expressions of the dashboard as recording rules, so that promtool can check them:
// node rules.mjs < stagedoor.json | promtool check rules

import { text } from 'node:stream/consumers';

const { panels } = JSON.parse(await text(process.stdin));
const expressions = panels.flatMap(({ targets }) => targets.map(({ expr }) => expr));
const rules = expressions.map((expr, i) => ({
  record: `dashboard:expression${i}`,
  expr: expr.replaceAll('$__rate_interval', '5m').replaceAll('$instance', '.*'),
}));
console.log(JSON.stringify({ groups: [{ name: 'dashboard', rules }] }));
