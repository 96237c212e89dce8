package config

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/kelseyhightower/envconfig"
)

// variable is one field of the Config, as its tags have it.
type variable struct {
	name     string
	fallback string // the default
	required bool
	field    reflect.StructField
	parent   reflect.Type
}

// variables lists the fields of a struct that have an envconfig tag, and those of the structs in
// it, in their order.
func variables(of reflect.Type) iter.Seq[variable] {
	return func(yield func(variable) bool) {
		for section := range sections(reflect.New(of).Elem()) {
			t := section.Type()
			for i := range t.NumField() {
				field := t.Field(i)
				v := variable{field.Tag.Get("envconfig"), field.Tag.Get("default"), field.Tag.Get("required") == "true", field, t}
				if !yield(v) {
					return
				}
			}
		}
	}
}

// sections are the structs in a struct whose fields are variables. They are processed one by one,
// since envconfig would take RUNNER_DRONE_RUNNER_NAME for DRONE_RUNNER_NAME if it came to it
// through the field Runner of Config.
func sections(s reflect.Value) iter.Seq[reflect.Value] {
	return func(yield func(reflect.Value) bool) { walk(s, yield) }
}

func walk(s reflect.Value, yield func(reflect.Value) bool) bool {
	if _, tagged := s.Type().Field(0).Tag.Lookup("envconfig"); tagged {
		return yield(s)
	}
	for i := range s.NumField() {
		if !walk(s.Field(i), yield) {
			return false
		}
	}
	return true
}

// known are the variables that the Config has fields for.
func known() map[string]variable {
	set := map[string]variable{}
	for v := range variables(reflect.TypeFor[Config]()) {
		set[v.name] = v
	}
	return set
}

// decode has envconfig fill the fields of cfg. Where envconfig ends at the first fault, decode
// notes it, takes the variable out and begins again, so that all faults are found; a field whose
// variable is faulty has its default, and is not complained of again by what is checked later.
func (l *loader) decode(cfg *Config) {
	all, values, faults := known(), map[string]string{}, map[string]error{}
	for name, v := range all {
		value := v.clean(l.env[name])
		switch {
		case strings.ContainsRune(value, 0):
			faults[name] = fmt.Errorf("%s holds a NUL byte, which no variable can: write it anew", name)
			value = ""
		case value == "" && v.required:
			faults[name] = fmt.Errorf("%s is required, and is not set: %s", name, v.hint())
		}
		if value != "" || v.required { // empty for envconfig is set, or it would end at a required one that is missing
			values[name] = value
		}
	}
	for section := range sections(reflect.ValueOf(cfg).Elem()) {
		for {
			err := process(section, values)
			var parse *envconfig.ParseError
			if !errors.As(err, &parse) || faults[parse.KeyName] != nil {
				if err != nil { // of the tags in Config, which the tests rule out
					l.fail("read the environment: %w", err)
				}
				break
			}
			faults[parse.KeyName] = all[parse.KeyName].expected(parse)
			delete(values, parse.KeyName)
		}
	}
	for v := range variables(reflect.TypeFor[Config]()) {
		if err := faults[v.name]; err != nil {
			l.errs = append(l.errs, err)
		}
	}
}

// process has envconfig fill one section with values, and with the defaults of those that are
// missing. A value that is there and empty counts as set.
//
// envconfig reads no environment but the process's, which isn't ours to write. So it gets a struct
// of the same fields whose names no environment can hold, and whose defaults are the values.
func process(section reflect.Value, values map[string]string) error {
	var fields []reflect.StructField
	var places []int
	for i := range section.NumField() {
		field := section.Type().Field(i)
		name := field.Tag.Get("envconfig")
		value, given := values[name]
		if !given {
			value = field.Tag.Get("default")
		}
		if value == "" {
			continue // envconfig leaves the zero value as well
		}
		field.Tag = reflect.StructTag(fmt.Sprintf(`envconfig:%q default:%q`, name+impossible, value))
		fields = append(fields, reflect.StructField{Name: field.Name, Type: field.Type, Tag: field.Tag})
		places = append(places, i)
	}
	decoded := reflect.New(reflect.StructOf(fields))
	err := envconfig.Process("", decoded.Interface())
	var parse *envconfig.ParseError
	if errors.As(err, &parse) {
		parse.KeyName = strings.TrimSuffix(parse.KeyName, impossible)
	}
	for k, i := range places {
		section.Field(i).Set(decoded.Elem().Field(k))
	}
	return err
}

// impossible makes a name that is no variable's in any environment.
const impossible = "="

// clean is a value without what surrounds it and its parts and has no meaning; secrets are taken as
// they are.
func (v variable) clean(value string) string {
	switch {
	case v.field.Type == reflect.TypeFor[Secret]():
		return value
	case v.field.Type.Kind() != reflect.Slice:
		return strings.TrimSpace(value)
	}
	var items []string
	for item := range strings.SplitSeq(value, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return strings.Join(items, ",")
}

// hint says what a required variable is for.
func (v variable) hint() string {
	switch v.name {
	case "DRONE_RPC_HOST":
		return "set it to the host of the Drone server, such as drone.example.com"
	case "DRONE_RPC_SECRET":
		return "set it to the value that the Drone server has under the same name"
	default:
		return "see docs/configuration.md"
	}
}

// expected words what envconfig couldn't parse: its own error quotes the value, which may be a
// secret, and names Go's types. Our own types' errors say by themselves what is expected.
func (v variable) expected(parse *envconfig.ParseError) error {
	switch reflect.Zero(v.field.Type).Interface().(type) {
	case bool:
		return fmt.Errorf("%s: %q is neither true nor false", v.name, parse.Value)
	case int, int64:
		return fmt.Errorf("%s: %q is not a whole number: write one such as 2", v.name, parse.Value)
	case time.Duration:
		return fmt.Errorf("%s: %q is not a duration: write a number with a unit, such as 90s, 30m or 1h30m",
			v.name, parse.Value)
	default:
		return fmt.Errorf("%s: %w", v.name, parse.Err)
	}
}

// sortedNames are the names in alphabetical order, for messages that don't change from run to run.
func sortedNames[V any](set map[string]V) []string { return slices.Sorted(maps.Keys(set)) }
