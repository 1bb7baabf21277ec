package config

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// humanDuration is a duration as Backstage writes them: 5s, 2 minutes, PT5S, or an
// object such as {seconds: 5}.
type humanDuration time.Duration

// units are those of Backstage's durations, by each of their names in lower case.
var units = map[string]time.Duration{
	"ms": time.Millisecond, "msec": time.Millisecond, "msecs": time.Millisecond,
	"millisecond": time.Millisecond, "milliseconds": time.Millisecond,
	"s": time.Second, "sec": time.Second, "secs": time.Second, "second": time.Second, "seconds": time.Second,
	"m": time.Minute, "min": time.Minute, "mins": time.Minute, "minute": time.Minute, "minutes": time.Minute,
	"h": time.Hour, "hr": time.Hour, "hrs": time.Hour, "hour": time.Hour, "hours": time.Hour,
	"d": 24 * time.Hour, "day": 24 * time.Hour, "days": 24 * time.Hour,
	"w": 7 * 24 * time.Hour, "week": 7 * 24 * time.Hour, "weeks": 7 * 24 * time.Hour,
}

var (
	plainDuration = regexp.MustCompile(`^(\d*\.?\d+) *([A-Za-z]+)$`)
	isoDuration   = regexp.MustCompile(`^P(?:[\d.]+[WD])*(?:T(?:[\d.]+H)?(?:[\d.]+M)?(?:[\d.]+S)?)?$`)
	isoPart       = regexp.MustCompile(`([\d.]+)([WDHMS])`)
)

// humanHook reads a duration as Backstage's readDurationFromConfig does
// (@backstage/config 1.3.11), but for months and years.
func humanHook(_, to reflect.Type, value any) (any, error) {
	if to != reflect.TypeFor[humanDuration]() {
		return value, nil
	}
	sum := time.Duration(0)
	switch v := value.(type) {
	case string:
		text := strings.TrimSpace(v)
		if parts := plainDuration.FindStringSubmatch(text); len(parts) > 0 && units[strings.ToLower(parts[2])] > 0 {
			return addUnit(&sum, parts[1], strings.ToLower(parts[2]))
		}
		if parts := isoPart.FindAllStringSubmatch(text, -1); parts != nil && isoDuration.MatchString(text) {
			for _, part := range parts {
				if _, err := addUnit(&sum, part[1], strings.ToLower(part[2])); err != nil {
					return nil, err
				}
			}
			return int64(sum), nil
		}
	case map[string]any:
		for name, number := range v {
			if !slices.Contains([]string{"weeks", "days", "hours", "minutes", "seconds", "milliseconds"}, name) {
				return nil, fmt.Errorf("want weeks, days, hours, minutes, seconds and milliseconds, have %q", name)
			}
			if _, err := addUnit(&sum, fmt.Sprint(number), name); err != nil {
				return nil, err
			}
		}
		if len(v) > 0 {
			return int64(sum), nil
		}
	}
	return nil, errors.New("want a duration with its unit, such as 5s, 1d, PT5S or {seconds: 5}")
}

func addUnit(sum *time.Duration, number, unit string) (any, error) {
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || n < 0 || n*float64(units[unit]) > math.MaxInt64/2 {
		return nil, fmt.Errorf("want a number of %s, have %q", unit, number)
	}
	*sum += time.Duration(n * float64(units[unit]))
	return int64(*sum), nil
}
