// The policies that are asked through both: drawn at random, with seeds, so that each run has the same; those that the
// plugin's documentation shows; and those about which the two differ on purpose.

const types = {
  'catalog-entity': {
    plugin: 'catalog',
    names: { read: ['catalog.entity.read'], update: ['catalog.entity.refresh'], delete: ['catalog.entity.delete'] },
    rules: [
      ['IS_ENTITY_OWNER', () => ({ claims: ['$ownerRefs'] })],
      ['IS_ENTITY_OWNER', () => ({ claims: ['group:default/ops', '$currentUser'] })],
      ['IS_ENTITY_KIND', () => ({ kinds: ['Group', 'User'] })],
      ['HAS_LABEL', () => ({ label: 'frozen' })],
      ['HAS_SPEC', () => ({ key: 'lifecycle', value: 'production' })],
    ],
  },
  'scaffolder-template': {
    plugin: 'scaffolder',
    names: { read: ['scaffolder.template.parameter.read', 'scaffolder.template.step.read'] },
    rules: [['HAS_TAG', () => ({ tag: 'secret' })]],
  },
  'scaffolder-action': {
    plugin: 'scaffolder',
    names: { use: ['scaffolder.action.execute'] },
    rules: [['HAS_ACTION_ID', () => ({ actionId: 'debug:log' })]],
  },
  'scaffolder-task': {
    plugin: 'scaffolder',
    names: { read: ['scaffolder.task.read', 'scaffolder.task.cancel'] },
    rules: [['IS_TASK_OWNER', () => ({ createdBy: ['$currentUser'] })]],
  },
  'policy-entity': {
    plugin: 'permission',
    names: { read: ['policy.entity.read'], delete: ['policy.entity.delete'] },
    rules: [['IS_OWNER', () => ({ owners: ['$currentUser'] })]],
  },
};
const basic = [
  ['catalog.entity.create', 'create'],
  ['catalog.location.read', 'read'],
  ['kubernetes.proxy', 'use'],
  ['devtools.info', 'read'],
  ['policy.entity.create', 'create'],
];
const groups = ['all', 'engineering', 'web', 'shop', 'ops', 'egg', 'hen'].map(name => `group:default/${name}`);
export const people = ['ann', 'bob', 'cy', 'dee', 'eve', 'fay', 'gil', 'hal'];
const users = people.map(name => `user:default/${name}`);
const roles = ['r1', 'r2', 'R3', 'r-4'].map(name => `role:default/${name}`);

/** Numbers that look random, the same for the same seed. */
function random(seed) {
  let state = seed * 2654435761 + 1;
  const next = () => {
    state = (Math.imul(state ^ (state >>> 15), 2246822519) + 374761393) | 0;
    return ((state ^ (state >>> 13)) >>> 0) / 2 ** 32;
  };
  for (let n = 0; n < 8; n++) next();
  const below = most => Math.floor(next() * most);
  return { below, one: all => all[below(all.length)], chance: odds => next() < odds };
}

function condition({ one, below, chance }, type, depth = 2) {
  if (depth === 0 || chance(0.5)) {
    const [rule, params] = one(types[type].rules);
    return { rule, resourceType: type, params: params() };
  }
  const parts = Array.from({ length: 1 + below(2) }, () => condition({ one, below, chance }, type, depth - 1));
  return one([{ allOf: parts }, { anyOf: parts }, { not: parts[0] }]);
}

function drawn(seed) {
  const draw = random(seed);
  const { one, below, chance } = draw;
  const lines = new Map();
  const add = (subject, object, action, effect) => {
    const key = [subject, object, action].join(', ');
    if (!lines.has(key)) lines.set(key, `p, ${key}, ${effect}`);
  };
  for (let n = 24 + below(16); n > 0; n--) {
    const subject = chance(0.8) ? one(roles) : one([...users, ...groups]);
    const effect = chance(0.7) ? 'allow' : 'deny';
    if (chance(0.25)) {
      const [name, action] = one(basic);
      add(subject, name, action, effect);
      continue;
    }
    const type = one(Object.keys(types));
    const action = one(Object.keys(types[type].names));
    add(subject, chance(0.5) ? type : one(types[type].names[action]), action, effect);
  }
  const bindings = new Set();
  for (let n = 5 + below(7); n > 0; n--) bindings.add(`g, ${chance(0.4) ? one(users) : one(groups)}, ${one(roles)}`);
  const conditions = new Map();
  for (let n = below(9); n > 0; n--) {
    const type = one(Object.keys(types));
    const action = one(Object.keys(types[type].names));
    const roleEntityRef = one(roles);
    const named = chance(0.4);
    conditions.set([roleEntityRef, type, action].join(), {
      result: 'CONDITIONAL',
      roleEntityRef,
      pluginId: types[type].plugin,
      resourceType: type,
      permissionMapping: [named ? { name: one(types[type].names[action]), action } : action],
      conditions: condition(draw, type),
    });
  }
  const rbac = { policyDecisionPrecedence: seed % 2 ? 'conditional' : 'basic' };
  if (seed % 3 === 0) rbac.maxDepth = below(3);
  if (seed % 4 === 1) rbac.useOwnershipEntityRefs = true;
  if (seed % 5 === 2) {
    const basicPermissions = [{ permission: 'devtools.info', action: 'read' }, { permission: 'catalog-entity', action: 'read' }];
    rbac.defaultPermissions = { defaultRole: 'role:default/everybody', basicPermissions };
  }
  if (seed % 4 === 3) rbac.admin = { users: [{ name: 'User:default/Eve' }], superUsers: [{ name: 'user:default/fay' }] };
  return { name: `drawn ${seed}`, csv: [...lines.values(), ...bindings], conditions: [...conditions.values()], rbac };
}

const on = (role, type, mapping, conditions) => ({
  result: 'CONDITIONAL',
  roleEntityRef: `role:default/${role}`,
  pluginId: types[type].plugin,
  resourceType: type,
  permissionMapping: mapping,
  conditions,
});
const owned = claims => ({ rule: 'IS_ENTITY_OWNER', resourceType: 'catalog-entity', params: { claims } });

// What the plugin's README and docs/conditions.md show, for people of this catalog.
const documented = [
  {
    name: 'documented: denials in CSV',
    csv: [
      'p, role:default/team_a, catalog-entity, read, deny',
      'p, role:default/team_b, catalog.entity.create, create, deny',
      '',
      'g, user:default/bob, role:default/team_a',
      '',
      'g, group:default/web, role:default/team_b',
    ],
  },
  {
    name: 'documented: conditions',
    csv: ['p, role:default/test, catalog-entity, read, allow', 'g, group:default/engineering, role:default/test', 'g, user:default/cy, role:default/developer'],
    conditions: [
      on('test', 'catalog-entity', ['read'], {
        anyOf: [owned(['group:default/team-a']), { rule: 'IS_ENTITY_KIND', resourceType: 'catalog-entity', params: { kinds: ['Group'] } }],
      }),
      on('developer', 'catalog-entity', ['delete'], owned(['$currentUser'])),
      on('developer', 'catalog-entity', ['update'], {
        not: { rule: 'HAS_ANNOTATION', resourceType: 'catalog-entity', params: { annotation: 'example.com/realm', value: 'main' } },
      }),
      on('developer', 'scaffolder-action', ['use'], {
        not: { rule: 'HAS_ACTION_ID', resourceType: 'scaffolder-action', params: { actionId: 'quay:create-repository' } },
      }),
      on('developer', 'scaffolder-template', [{ name: 'scaffolder.template.parameter.read', action: 'read' }], {
        rule: 'HAS_TAG', resourceType: 'scaffolder-template', params: { tag: 'x' },
      }),
    ],
  },
];

// A policy that is also read from the plugin's REST API, by an administrator who sees all of it.
const told = {
  name: 'read from the REST API',
  told: true,
  csv: [
    'p, role:default/dev, catalog-entity, read, allow',
    'p, role:default/dev, catalog.entity.delete, delete, deny',
    'p, user:default/cy, kubernetes.proxy, use, allow',
    'g, user:default/Ann, role:default/dev',
    'g, group:default/engineering, role:default/owner',
  ],
  conditions: [
    on('owner', 'catalog-entity', ['update', 'delete'], { anyOf: [owned(['$ownerRefs']), { not: owned(['$currentUser']) }] }),
    on('owner', 'scaffolder-task', [{ name: 'scaffolder.task.read', action: 'read' }], {
      rule: 'IS_TASK_OWNER', resourceType: 'scaffolder-task', params: { createdBy: ['$currentUser'] },
    }),
  ],
  rbac: { admin: { users: [{ name: 'User:default/Eve' }] }, maxDepth: 4 },
};

// The cases of a table, each a person of its own with the roles a and b, and a few lines of these.
const cases = [
  ['ann', 'allow by name, deny by type', ['a, catalog.entity.read, read, allow', 'a, catalog-entity, read, deny']],
  ['bob', 'a name in one role, a type in another', ['a, catalog.entity.read, read, allow', 'b, catalog-entity, read, deny']],
  ['cy', 'deny by name, allow by type', ['a, catalog.entity.read, read, deny', 'a, catalog-entity, read, allow']],
  ['eve', 'an allow by type, and a condition', ['a, catalog-entity, read, allow'], { b: owned(['$ownerRefs']) }],
  ['fay', 'a denial by type, and a condition', ['a, catalog-entity, read, deny'], { b: owned(['$ownerRefs']) }],
  ['gil', 'a condition in each of two roles', [], { a: owned(['$ownerRefs']), b: owned(['$currentUser']) }],
  ['hal', 'a role that allows, and a line about the user', ['a, catalog-entity, read, allow'], {}, ['catalog-entity, read, deny']],
];
const casesWith = policyDecisionPrecedence => ({
  name: `cases of a table, ${policyDecisionPrecedence}`,
  csv: cases.flatMap(([person, , lines, , own = []]) => [
    ...lines.map(line => `p, role:default/${person}-${line}`),
    ...own.map(line => `p, user:default/${person}, ${line}`),
    ...['a', 'b'].map(role => `g, user:default/${person}, role:default/${person}-${role}`),
  ]),
  conditions: cases.flatMap(([person, , , conditions = {}]) =>
    Object.entries(conditions).map(([role, condition]) => on(`${person}-${role}`, 'catalog-entity', ['read'], condition)),
  ),
  rbac: { policyDecisionPrecedence },
});

// Fields and scalars that are read by rules of their own, and conditions that collide for one reason or another.
const odd = [
  {
    name: 'odd lines',
    csv: [
      'p, role:default/a, catalog-entity, read, allow',
      'p, role:default/a, catalog.entity.read, read, """deny"""',
      'p, role:default/b, catalog-entity, read, allow',
      'p, role:default/b, catalog.entity.read, read, deny\ufeff',
      'p, role:default/c, catalog-entity, read, allow\u0085',
      'p, role:default/c, catalog-entity, delete,\u00a0allow',
      'g, user:default/ann, role:default/a',
      'g, user:default/bob, role:default/b',
      'g, user:default/cy, role:default/c',
      '"g", user:default/Eve, role:default/c',
      'g, user:default/G\u0130l, role:default/c',
    ],
  },
  {
    name: 'conditions of two plugins in one role',
    csv: ['p, role:default/b, catalog-entity, read, allow', 'g, user:default/ann, role:default/a', 'g, user:default/bob, role:default/b'],
    conditions: [
      on('a', 'catalog-entity', ['read'], owned(['$ownerRefs'])),
      { ...on('a', 'catalog-entity', ['read'], owned(['$currentUser'])), pluginId: 'other' },
      on('b', 'catalog-entity', ['read'], owned(['$currentUser'])),
    ],
  },
  {
    name: 'scalars of YAML',
    csv: ['g, user:default/ann, role:default/a'],
    conditions: [
      ['{result: CONDITIONAL, roleEntityRef: "role:default/a", pluginId: catalog, resourceType: catalog-entity, permissionMapping: [read],', ' conditions: {anyOf: [']
        .concat(['1_000', '0b11', '2020-01-01', '1:30', 'yes', '!!str 12'].map(
          value => `  {rule: HAS_LABEL, resourceType: catalog-entity, params: {label: a, value: ${value}}},`,
        ))
        .concat(' ]}}')
        .join('\n'),
    ],
  },
];

// Where the answers differ on purpose. `differs` says for which permission, and how.
const differing = [
  {
    name: 'an alias that is not known, or stands where it is not filled in',
    csv: ['p, role:default/a, catalog-entity, update, allow', 'g, user:default/ann, role:default/a', 'g, user:default/bob, role:default/b'],
    conditions: [
      on('a', 'catalog-entity', ['read'], owned(['$claims'])),
      on('a', 'catalog-entity', ['delete'], { not: owned(['$claims']) }),
      on('b', 'catalog-entity', ['read'], owned('$ownerRefs')),
    ],
    differs: { 'catalog-entity': 'narrower' },
  },
  {
    name: 'a denial that contradicts, or stands twice',
    csv: [
      'p, role:default/a, catalog.entity.read, read, allow',
      'p, role:default/a, catalog.entity.read, read, deny',
      'p, role:default/a, catalog.entity.delete, delete, deny',
      'p, role:default/a, catalog.entity.delete, delete, deny',
      'p, role:default/a, kubernetes.proxy, use, allow',
      'p, role:default/a, kubernetes.proxy, use, allow',
      'p, role:default/a, catalog-entity, read, allow',
      'p, role:default/a, catalog-entity, delete, allow',
      'g, user:default/ann, role:default/a',
    ],
    differs: { 'catalog.entity.read': 'narrower', 'catalog.entity.delete': 'narrower' },
  },
  {
    name: 'two conditions of one role in the file',
    csv: ['p, role:default/b, catalog-entity, delete, allow', 'g, user:default/ann, role:default/a', 'g, user:default/ann, role:default/b'],
    conditions: [
      on('a', 'catalog-entity', ['read'], owned(['$ownerRefs'])),
      on('a', 'catalog-entity', ['read', 'update'], owned(['$currentUser'])),
      on('b', 'catalog-entity', ['delete'], owned(['$currentUser'])),
    ],
    differs: { 'catalog-entity': 'narrower' },
  },
  {
    name: 'the same condition twice in the file',
    csv: ['p, role:default/b, catalog-entity, read, allow', 'g, user:default/ann, role:default/a', 'g, user:default/bob, role:default/b'],
    conditions: [
      on('a', 'catalog-entity', ['read'], owned(['$ownerRefs'])),
      on('a', 'catalog-entity', ['read'], owned(['$ownerRefs'])),
      on('b', 'catalog-entity', ['read'], owned(['$currentUser'])),
    ],
    differs: { 'catalog-entity': 'narrower' },
  },
];

/** All of them, with `seeds` drawn ones. */
export const policies = seeds => [
  ...documented,
  told,
  casesWith('conditional'),
  casesWith('basic'),
  ...Array.from({ length: seeds }, (_, n) => drawn(n + 1)),
  ...odd,
  ...differing,
];
