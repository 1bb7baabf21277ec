package params

import (
	"encoding/json"
)

// EmptyMeansAll are the params of which an empty list, or none, means everything.
var EmptyMeansAll = []struct{ ResourceType, Rule, Param string }{
	{"extensions-plugin", "HAS_NAME", "pluginNames"},
	{"scorecard-metric", "HAS_METRIC_ID", "metricIds"},
	{"homepage-default-card", "HAS_WIDGET_ID", "widgetIds"},
	{"homepage-default-widget", "HAS_WIDGET_ID", "widgetIds"},
}

// Empty reports whether a param of a rule call, whose params are given as JSON, is
// missing or an empty list.
func Empty(params, name string) bool {
	var members map[string]json.RawMessage
	if params == "" || json.Unmarshal([]byte(params), &members) != nil {
		return true
	}
	value, ok := members[name]
	return !ok || string(value) == "[]" || string(value) == "null"
}
