// Package soundness holds exploration to its word: whatever a policy says about a resource, the criteria that stagedoor
// answers let through exactly the resources for which the policy allows. It has tests alone.
//
// [TestSoundness] draws policies from a grammar that has every construct of a list of ways to write one, and with each
// policy a data document, callers and resources, the odd ones on purpose. For every policy, caller and resource (one
// trial) it compares
//
//   - stock OPA over the rule library's own bodies, with the resource as input.resource;
//   - the criteria of package explore, evaluated by the rules of the published Backstage packages, behind Backstage's
//     own apply-conditions router, under Node (oracle/oracle.mjs);
//   - the same criteria, evaluated by package criteria, each leaf answered by stock OPA.
//
// Where stock OPA fails on a resource, as where two values for one rule meet, the answer must not be ALLOW and must say
// that something failed. A policy that the grammar marks as answerable must not be refused.
//
// One node of every conditional answer is flipped, and the resources must notice: that is the measure of the run's own
// teeth. The answer is also held against an irredundant sum of products of the same function: it is never larger.
//
// A run is a function of its seed. What fails is shrunk to a minimal policy and resource and printed with the seed:
//
//	make soundness N=100000 SEED=1
package soundness
