// Package explore turns a policy about a resource that is not known yet into the
// criteria under which it allows.
//
// A policy about the resource looks at it only by handing it to permission rules:
// functions that are annotated with the rule of a Backstage plugin that they mean
// ([PermissionRule]). So its decision is a function of the answers to those calls.
// This package asks OPA's own evaluation for that function, and package criteria
// writes it down. What Rego means is never guessed.
//
// # One policy, all the way
//
// The source:
//
//	package authz
//
//	import data.backstage.catalog
//
//	allow if {
//		input.permission.attributes.action == "delete"
//		catalog.is_entity_owner(input.resource, {"claims": input.identity.claims})
//		not frozen
//	}
//
//	frozen if catalog.has_label(input.resource, {"label": "frozen"})
//
//	frozen if {
//		[e, labels] := [input.resource, ["archived", "retired"]]
//		some l in labels
//		catalog.has_label(e, {"label": l})
//	}
//
// The compiled form. OPA's compiler puts every reference that needs evaluation into
// an expression of its own and gives every local variable a name of its own in its
// rule. [Compile] works on that form. These are the bodies of allow and of the second
// frozen, with the author's names where there are any:
//
//	input.permission.attributes.action = "delete"
//	t1 = input.resource
//	t2 = input.identity.claims
//	data.backstage.catalog.is_entity_owner(t1, {"claims": t2})
//	not data.authz.frozen
//
//	t1 = input.resource
//	[e, labels] = [t1, ["archived", "retired"]]
//	l = labels[t2]
//	data.backstage.catalog.has_label(e, {"label": l})
//
// What is known of each term (reach.go, shape.go, follow.go, vet.go). First the rules
// that the entrypoint reaches are collected: here allow and frozen. Then the resource
// is followed through them. Each variable has a shape, which says where in its value
// the resource is: t1 is the resource; e is, since the two arrays are unified and t1 is
// the first element of one; labels and l have nothing of it; input is an object whose
// member resource is the resource. Variables that are unified are one class, kept in a
// union-find structure. The shapes of arguments and of values of rules are joined over
// all calls and all rules, until nothing changes: a data flow to its fixpoint. A
// resource that is put deeper than eight levels into a value is never lost: the whole
// eighth level counts as something that can be the resource or another value, and
// vetting refuses its use.
//
// Vetting then refuses whatever would look into the resource, with file, line and a
// hint ([VetError]): a part of it, a comparison, a set of resources, a builtin, or a
// permission rule whose first argument is not certainly the resource. Here nothing
// does. What remains are calls of permission rules about the very resource, the
// questions. They are directed to a builtin of ours, which only this compiler knows.
//
// All this happens in [Compile]: a policy that is refused never serves.
//
// The plan (plan.go, collection.go) is made in Compile too. A document is all that is defined at one path and
// depends on the resource. Each is a function of its own. A document is proved where
// every expression of its bodies that depends on the resource can be a premise. What
// can be one is listed below. Each premise is replaced by a call of another builtin of
// ours. A document that cannot be proved is explored as a whole. This is the plan of the example, as its String method
// writes it. Capitals are premises, and a dash begins a part of a body that shares no
// variable with other parts:
//
//	data.authz.allow is proved
//	  true where
//	    - input.permission.attributes.action = "delete"
//	      t1 = input.resource
//	      t2 = input.identity.claims
//	      ASK IS_ENTITY_OWNER(t1, {"claims": t2})
//	      NOT RULE data.authz.frozen
//	data.authz.frozen is proved
//	  true where
//	    - t1 = input.resource
//	      ASK HAS_LABEL(t1, {"label": "frozen"})
//	  true where
//	    - t2 = input.resource
//	      [e, labels] = [t2, ["archived", "retired"]]
//	      l = labels[t3]
//	      ASK HAS_LABEL(e, {"label": l})
//
// The proofs (prove.go). [Policy.Decide] evaluates each part of each body once. When
// OPA comes to a premise, our builtin notes it and goes on as if it held. Where a premise
// has values, as another document has, OPA goes on once with each of them. So each
// solution of the body is a proof, and the premises on its way are what it rests on. For ann of
// group:default/web, allow has one proof, which rests on two premises: she or her group
// owns the entity, and frozen is not true. To say where frozen is true, the builtin evaluates its
// two bodies in the same way. The first has one proof, the second has two, one for each
// label: a body is a disjunction of its proofs, and a proof a conjunction of its premises. In
// the theory of databases this is the why-provenance of an answer.
//
// The criteria. Functions are kept in a [criteria.Space], an and-inverter graph: all
// that is proved is put together by and and not. In the end it is minimised and written:
//
//	allOf
//	  IS_ENTITY_OWNER {"claims":["group:default/web","user:default/ann"]}
//	  not anyOf
//	    HAS_LABEL {"label":"archived"}
//	    HAS_LABEL {"label":"frozen"}
//	    HAS_LABEL {"label":"retired"}
//
// # Premises
//
// These can be premises, each with how it looks in Rego:
//
//	a question               catalog.has_label(input.resource, {"label": "a"})
//	the value of a document  role == "owner", where role depends on the resource
//	a negation               not frozen
//	a universal              every l in labels { catalog.has_label(input.resource, {"label": l}) }
//	an element of a set      "owner" in roles, where roles contains "owner" if ...
//	a number of elements     count([l | some l in labels; catalog.has_label(...)]) >= 2
//	a group                  rules[input.permission.name], or allowed with data.p.strict as true
//
// A number counts as OPA counts: equal elements are one in a set, and two in an array. A
// group is what else a body does with answers, and all that shares a variable with it. It
// is explored by itself, so that the rest of the body can be proved.
//
// # Exploration
//
// Some things that a policy does with an answer cannot be read from proofs: sum, max,
// an object of answers, a with, two values that differ by the answers. They are
// explored (branch.go). Evaluate with every answer false, take the first question that
// was asked and is open, and explore both of its answers, until no question is open.
// The function is then
//
//	(question and what it is if true) or (not question and what it is if false)
//
// That is Shannon's expansion, and the evaluations are the paths of a binary decision
// diagram in the order asked. A document is a question too, with as many answers as it has
// values. Whatever the policy does with the answers, OPA does it: exploration is exact
// by construction, and needs 2^n evaluations in the worst case. Proofs need one for each
// part of each body. Parts share no variable, and are evaluated apart so that the numbers
// of their solutions are added, not multiplied.
//
// # Who calls whom
//
//	Decide ─▶ decide ─▶ entry ─▶ outcomes of a document ─┬─▶ its proofs ───▶ OPA ─▶ suppose (builtin) ─┐
//	                                  ▲                  └─▶ exploration ──▶ OPA ─▶ ask, choose ───────┤
//	                                  └── where a premise or a question is another document ───────────┘
//
// suppose is called for each premise, in a proof. ask is called for a permission rule and
// choose for a document, in an exploration. What is found for a document, for the
// arguments of a function, for a group or for a collection is found once per decision.
//
// A failure is an error of OPA: of a builtin, such as a division by zero, or two values
// of one document. If an evaluation fails during a proof, the document is explored
// instead. A proof cannot tell for which answers OPA would have come to the expression
// that fails.
//
// # Outcomes
//
// The entrypoint has outcomes: values, no value, and errors, each with the function that
// says where it is so. A value is a boolean or a decision document (package wire). The
// answer joins them (decide.go): for each outcome, where it is and what it means. A
// document with conditions means these, so that they are read into the same Space.
// An error, or a value that is no decision, is a place where the criteria do not hold,
// and is told in [Result.Errors]. Where nothing else could allow, it is the error of
// the decision.
//
// # By either answer
//
// A rule about another type of resource than the permission's has no answer, nor has
// any rule where there is no resource. It is an unknown variable of the Space. What is
// allowed is what is allowed whatever the unknown variables are: the function is
// quantified over them ([criteria.Space.Certain]). [Result.Either] lists those whose
// answer would have changed the result. A basic permission is decided first as stock
// OPA decides: without a resource a question is undefined. Only where that allows, it is
// decided again with every question unknown. ALLOW needs both.
//
// # Why it ends
//
//   - reach.collect looks at each rule once.
//   - newFlow follows the resource through the rules. Each round but the last makes some
//     shape larger. Shapes are a lattice of bounded height, since they have at most
//     maxDepth levels.
//   - look follows it within a rule. Each round but the last adds to the shape of a class.
//   - findDependent finds the rules that depend on the resource. Each round but the last
//     adds one.
//   - planBody calls itself for the bodies that stand within a body, which are fewer.
//   - outcomes calls itself by way of OPA for the documents that a document refers to.
//     Rego refuses recursion, so that no document refers to itself.
//   - exploration.branch fixes one more question in each call, and a policy asks finitely
//     many. Where they are too many, [Limits] end the decision.
//   - settle makes errors of the places where a document has two values. It looks at each
//     pair of values once, of at most maxValues.
//   - criteria.Space.Certain and Minimise go to parts, or have one variable less.
//
// # One decision is one frozen world
//
// Every evaluation of a decision has the same transaction, time, seed and cache of
// nondeterministic builtins. What it may cost is bounded ([Limits]); what is beyond is a
// [*LimitError], which names the expression and what was asked. At run time the builtin
// checks the premise again: a first argument that is not the very resource is an error,
// and so are params that the rule's schema refuses.
//
// # What the literature calls it
//
//   - data flow and its fixpoint: Kildall, A unified approach to global program
//     optimization, 1973. Lattices of this kind: Tarski 1955.
//   - union-find: Galler and Fischer, An improved equivalence algorithm, 1964; Tarjan 1975.
//   - the premises of all proofs: why-provenance, Green, Karvounarakis and Tannen,
//     Provenance semirings, 2007.
//   - both answers of a question: the expansion of Boole (1854) and Shannon (The synthesis
//     of two-terminal switching circuits, 1949); to do it by running the program is symbolic execution, King 1976.
//   - binary decision diagrams: Bryant, Graph-based algorithms for Boolean function
//     manipulation, 1986.
//   - and-inverter graphs: Kuehlmann, Paruthi, Krohm and Ganai, Robust Boolean reasoning
//     for equivalence checking and functional property verification, 2002.
//   - irredundant sums of products, in package criteria: Morreale, Recursive operators for
//     prime implicant and irredundant normal form determination, 1970; Minato, Fast
//     generation of irredundant sum-of-products forms from binary decision diagrams, 1992.
//   - least sums of products: Quine 1952, McCluskey 1956. They are not looked for: irredundant
//     ones are as good here, and cost less.
//
// # Words
//
//	permission rule   a function annotated with a rule of a plugin
//	question          the call of one about the resource, with some params; at run
//	                  time also the value of a document that is explored
//	document          what is defined at one path and depends on the resource
//	chain, clause     a rule with its else branches; one body with its value
//	part              expressions of a body that share variables
//	premise           what a proof rests on
//	group             expressions that are explored together, as one premise
//	collection        a set or comprehension whose elements depend on the resource
//	shape             where in a value the resource is
//	outcome           a value, none or an error, and where it is so
//	branch            one evaluation of an exploration
//	world             what all evaluations of one decision have in common
//	run               one evaluation
package explore
