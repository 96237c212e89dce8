package policy

import (
	"reflect"
	"slices"
	"strconv"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/strictjson"
)

// fieldRule is what the policy says of one field of a request's struct.
type fieldRule struct {
	field string
	do    action
}

// action judges one field, and may change it. at is the field's full name, for messages. It reads
// no other field of the request.
type action func(j *judgement, at string, v reflect.Value) error

// judgement is a request being judged.
type judgement struct {
	stage Stage
	facts facts
	// warnings go into the answer.
	warnings []string
}

// warn adds a warning.
func (j *judgement) warn(text string) { j.warnings = append(j.warnings, text) }

// allow is for what an unprivileged container may choose freely, and for what concerns nothing but
// itself.
func allow(*judgement, string, reflect.Value) error { return nil }

// deny is for what must be empty: zero, or a list or map without elements. Empty values are
// normalised to zero.
func deny(why, way string) action {
	return func(_ *judgement, at string, v reflect.Value) error {
		if !isEmpty(v) {
			return apierror.Refuse(at, why, way)
		}
		v.SetZero()
		return nil
	}
}

// drop is for what only answers have: clients send back what they once read.
func drop(_ *judgement, _ string, v reflect.Value) error {
	v.SetZero()
	return nil
}

// clamp cuts a number down to a limit. Zero and below mean "no limit" to Docker, so they become the
// limit.
func clamp(limit func(Limits) int64) action {
	return func(j *judgement, at string, v reflect.Value) error {
		most := limit(j.stage.Limits)
		if most <= 0 {
			return nil
		}
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		if have := v.Int(); have <= 0 || have > most {
			if have > most {
				j.warn(at + " is cut down to this runner's limit, " + strconv.FormatInt(most, 10))
			}
			v.SetInt(most)
		}
		return nil
	}
}

// oneOf is for a string of which only some values are known to be harmless.
func oneOf(why, way string, values ...string) action {
	return func(_ *judgement, at string, v reflect.Value) error {
		if slices.Contains(values, v.String()) {
			return nil
		}
		return apierror.Refuse(at+" "+apierror.Quote(v.String()), why, way)
	}
}

// sub judges a struct, or each struct of a list, by rules of its own.
func sub(rules []fieldRule) action {
	return func(j *judgement, at string, v reflect.Value) error {
		switch v.Kind() {
		case reflect.Pointer:
			if v.IsNil() {
				return nil
			}
			return j.enforce(at, v.Elem(), rules)
		case reflect.Slice:
			for i := range v.Len() {
				e := v.Index(i)
				if e.Kind() == reflect.Pointer {
					if e.IsNil() {
						return apierror.BadRequest("%s[%d] is null", at, i)
					}
					e = e.Elem()
				}
				if err := j.enforce(at+"["+strconv.Itoa(i)+"]", e, rules); err != nil {
					return err
				}
			}
			return nil
		}
		return j.enforce(at, v, rules)
	}
}

// judge applies rules to the struct that p points to.
func (j *judgement) judge(at string, p any, rules []fieldRule) error {
	return j.enforce(at, reflect.ValueOf(p).Elem(), rules)
}

// enforce applies rules to a struct, and refuses what no rule names.
func (j *judgement) enforce(at string, v reflect.Value, rules []fieldRule) error {
	t := v.Type()
	named := make(map[string]bool, len(rules))
	for _, r := range rules {
		named[r.field] = true
		f, ok := t.FieldByName(r.field)
		if !ok {
			continue
		}
		if err := r.do(j, placeOf(at, f), v.FieldByIndex(f.Index)); err != nil {
			return err
		}
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if f.IsExported() && !named[f.Name] && !isEmpty(v.Field(i)) {
			return apierror.Refuse(placeOf(at, f), "the guard's policy doesn't know this field", "")
		}
	}
	return nil
}

// placeOf returns the full name of a field as it is in JSON, where embedded structs have none of
// their own.
func placeOf(at string, f reflect.StructField) string {
	name, ok := strictjson.FieldName(f)
	switch {
	case !ok:
		return at
	case at == "":
		return name
	}
	return at + "." + name
}

// isEmpty reports whether a value asks for nothing.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	case reflect.Pointer:
		return v.IsNil() || isEmpty(v.Elem())
	}
	return v.IsZero()
}
