// Package anyone answers who may do something, of all callers that there can be.
//
// For one caller, a decision is a formula over what rules say of the resource (package
// explore). Here the caller is an unknown too: the formula is over claims, user and rules.
//
//	in group:default/admins, or owned by the caller or a group of the caller
//
// # How
//
// A policy is evaluated once, with symbols in place of the caller and the resource (package
// theory). What OPA's compiler made of the modules is interpreted (packages evaluation, call
// and scope); builtins are OPA's own. A value is a term with symbols in it, and holds under
// a function: the condition that was met on the way to it.
//
// The elements of the claims are not enumerated. To go over them introduces one element,
// of which nothing is known. What is asked of it becomes a question (an atom): is it
// equal to this, does it start with that, does the resource carry a label of its name. At
// the end of a body the elements are quantified: there is some element for which all that
// holds. Where the questions say what the element is, it is replaced by that, and what is
// left of "some claim is group:default/admins" is "the caller has that claim". So a lookup,
// data.roles[claim], enumerates the data, and the claims are asked for.
//
// A set or list that is made of claims is a collection: members, each with the function
// that says where it is one, for every choice of some elements. So count, union,
// intersection, comparison and params of rules are functions of members.
//
// A decision document is read member by member, and its conditions as a formula (package
// verdict).
//
// # What makes it right
//
// No question is simplified by anything but its meaning: each is a term that [Answer.Holds]
// evaluates for a caller by OPA's builtins (package valuation). What cannot be said is an
// [*evaluation.OutsideError], with file and line. Among that are a builtin that fails for
// some callers, and the place of a claim in the list. An evaluation that fails, or not, by
// the order of evaluation is too. Package soundness holds the formulas to stock OPA.
//
// All of it is for commands. Nothing here is on the way of a request.
//
// # Words
//
//	symbol       a value that depends on who asks, or on the resource
//	element      some member of a list or set that depends on who asks
//	collection   a set, list or object whose members do
//	atom         a question about caller and resource: a variable of the Space
//	to close     to say of a function that there are elements for which it holds
//	theory       the symbols and atoms that formulas are about
package anyone
