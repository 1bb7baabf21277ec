package soundness

import (
	"maps"
	"slices"
	"strings"
)

// shrink returns a smaller trial that fails too: of one caller and one resource, without the rules, lines and
// members that do not matter.
func shrink(tr trial, f *finding, fails func(trial) bool) trial {
	resource, ok := f.resource.(map[string]any)
	if !ok {
		resource = tr.world.resources[0]
	}
	one := tr
	one.world.resources = []map[string]any{resource}
	i := slices.IndexFunc(tr.world.inputs, func(input map[string]any) bool {
		one.world.inputs = []map[string]any{input}
		return fails(one)
	})
	if i < 0 {
		return tr
	}
	for {
		before := one.String()
		one = shrinkPolicy(one, "\n\n", fails)
		one = shrinkPolicy(one, "\n", fails)
		one = shrinkWorld(one, fails)
		if one.String() == before {
			return one
		}
	}
}

// shrinkPolicy leaves out parts of the policy: rules, or lines.
func shrinkPolicy(tr trial, separator string, fails func(trial) bool) trial {
	parts := strings.Split(tr.policy.source, separator)
	for size := len(parts) / 2; size > 0; size /= 2 {
		for i := 0; i+size <= len(parts); {
			fewer := slices.Delete(slices.Clone(parts), i, i+size)
			smaller := tr
			smaller.policy.source = strings.Join(fewer, separator)
			if fails(smaller) {
				tr, parts = smaller, fewer
			} else {
				i++
			}
		}
	}
	return tr
}

// shrinkWorld leaves out members of data, of the input and of the resource.
func shrinkWorld(tr trial, fails func(trial) bool) trial {
	parts := map[string]any{"data": tr.world.data, "input": tr.world.inputs[0], "resource": tr.world.resources[0]}
	with := func(parts map[string]any) trial {
		part := func(name string) map[string]any {
			object, ok := parts[name].(map[string]any)
			if !ok {
				return map[string]any{}
			}
			return object
		}
		other := tr
		other.world = world{part("data"), []map[string]any{part("input")}, []map[string]any{part("resource")}}
		return other
	}
	return with(without(decodeObject(compact(parts)), func(smaller any) bool {
		return fails(with(smaller.(map[string]any)))
	}).(map[string]any))
}

// without returns v without the members and elements, at any depth, without which it fails too.
func without(v any, fails func(any) bool) any {
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			smaller := maps.Clone(v)
			if delete(smaller, name); fails(smaller) {
				v = smaller
				continue
			}
			v = maps.Clone(v)
			v[name] = without(v[name], func(member any) bool {
				other := maps.Clone(v)
				other[name] = member
				return fails(other)
			})
		}
		return v
	case []any:
		for i := len(v) - 1; i >= 0; i-- {
			if smaller := slices.Delete(slices.Clone(v), i, i+1); fails(smaller) {
				v = smaller
				continue
			}
			v = slices.Clone(v)
			v[i] = without(v[i], func(element any) bool {
				other := slices.Clone(v)
				other[i] = element
				return fails(other)
			})
		}
		return v
	}
	return v
}
