// Decisions as formulas over the answers of rules, so that two are the same when they say the same of every resource.

const canonical = value => {
  if (Array.isArray(value)) return value.map(canonical);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.keys(value).sort().map(key => [key, canonical(value[key])]));
};
const leaf = ({ rule, resourceType, params }) => JSON.stringify(canonical({ rule, resourceType, params: params ?? {} }));

function leaves(criteria) {
  if (criteria.not) return leaves(criteria.not);
  const parts = criteria.allOf ?? criteria.anyOf;
  return parts ? parts.flatMap(leaves) : [leaf(criteria)];
}

function holds(criteria, answers) {
  if (criteria.not) return !holds(criteria.not, answers);
  if (criteria.allOf) return criteria.allOf.every(part => holds(part, answers));
  if (criteria.anyOf) return criteria.anyOf.some(part => holds(part, answers));
  return answers.get(leaf(criteria));
}

const allows = (decision, answers) =>
  decision.result === 'CONDITIONAL' ? holds(decision.conditions, answers) : decision.result === 'ALLOW';

const mostLeaves = 16;

/** How `ours` differs from `theirs`: 'same', 'wider', 'narrower', or 'other' where it is both. */
export function compare(theirs, ours) {
  const conditional = [theirs, ours].filter(decision => decision.result === 'CONDITIONAL');
  const asked = [...new Set(conditional.flatMap(decision => leaves(decision.conditions)))];
  if (asked.length > mostLeaves) throw new Error(`${asked.length} rules in one decision are too many to compare`);
  let more = conditional.length === 2 && theirs.pluginId !== ours.pluginId;
  let less = more;
  for (let row = 0; row < 2 ** asked.length; row++) {
    const answers = new Map(asked.map((name, n) => [name, Boolean(row & (1 << n))]));
    const [there, here] = [allows(theirs, answers), allows(ours, answers)];
    more ||= here && !there;
    less ||= there && !here;
  }
  if (more && less) return 'other';
  return more ? 'wider' : less ? 'narrower' : 'same';
}
