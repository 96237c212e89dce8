package compiler

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drone/runner-go/manifest"
)

// addSettings turns a plugin's settings into its PLUGIN_ variables.
func (b *builder) addSettings(ctx context.Context, env environment, settings map[string]*manifest.Parameter,
	notes *[]string) error {
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		name, p := settingName(key), settings[key]
		switch {
		case p == nil:
			env.set(name, "")
		case p.Secret != "":
			if err := b.addSecret(ctx, env, name, p.Secret, notes); err != nil {
				return fmt.Errorf("settings: %s: %w", key, err)
			}
		default:
			text, err := encode(p.Value)
			if err != nil {
				return fmt.Errorf("settings: %s: %w", key, err)
			}
			env.set(name, text)
		}
	}
	return nil
}

// settingPrefix begins the names of the variables that hold the settings of a plugin.
const settingPrefix = "PLUGIN_"

// settingName is PLUGIN_ and the key in upper case, with what no variable's name may hold as an
// underscore.
func settingName(key string) string {
	return settingPrefix + strings.NewReplacer("-", "_", ".", "_").Replace(strings.ToUpper(key))
}

// encode writes a value of the YAML as plugins read it: scalars as text, a list of scalars joined
// by commas, other lists and maps as JSON.
func encode(value any) (string, error) {
	if text, ok := encodeScalar(value); ok {
		return text, nil
	}
	if list, ok := value.([]any); ok {
		parts := make([]string, 0, len(list))
		for _, item := range list {
			text, ok := encodeScalar(item)
			if !ok {
				break
			}
			parts = append(parts, text)
		}
		if len(parts) == len(list) {
			return strings.Join(parts, ","), nil
		}
	}
	var out strings.Builder
	enc := json.NewEncoder(&out)
	// A plugin gets <, > and & as they were written.
	enc.SetEscapeHTML(false)
	if err := enc.Encode(jsonable(value)); err != nil {
		return "", fmt.Errorf("can't be written as JSON: %w", err)
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}

func encodeScalar(value any) (string, bool) {
	switch v := value.(type) {
	case nil:
		return "", true
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case int:
		return strconv.Itoa(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case uint64:
		return strconv.FormatUint(v, 10), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case time.Time:
		return v.Format(time.RFC3339Nano), true
	}
	return "", false
}

// jsonable gives maps with keys of any type, which YAML knows and JSON doesn't, keys of text.
func jsonable(value any) any {
	switch v := value.(type) {
	case map[any]any:
		out := make(map[string]any, len(v))
		for key, item := range v {
			text, ok := encodeScalar(key)
			if !ok {
				text = fmt.Sprint(key)
			}
			out[text] = jsonable(item)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, item := range v {
			out[key] = jsonable(item)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = jsonable(item)
		}
		return out
	}
	return value
}
