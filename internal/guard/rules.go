package guard

import (
	"context"
	"reflect"
	"strconv"

	"github.com/docker/docker/api/types/container"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/strictjson"
)

// fieldRule is what the policy says of one field of a request's struct. A field without a rule must be empty: what a new version of Docker adds is refused until
// somebody has thought about it (and a test fails until then).
type fieldRule struct {
	field string
	do    action
}

// action judges, and may change, a field. at is its full name, for messages.
type action func(p *checking, at string, v reflect.Value) error

// checking is one struct being judged.
type checking struct {
	context.Context
	c *call
	// create is the container that is being created, nil for other requests.
	create *creation
	// update is the resources that are being changed, nil for other requests.
	update *container.Resources
	// warnings go into the answer, where it has a place for them.
	warnings []string
}

// warn adds a warning.
func (p *checking) warn(text string) { p.warnings = append(p.warnings, text) }

// allow is for what an unprivileged container may choose freely, and for what concerns nothing but itself.
func allow(*checking, string, reflect.Value) error { return nil }

// deny is for what must be empty: zero, or a list or map without elements. Empty values are normalised to zero.
func deny(why, way string) action {
	return func(_ *checking, at string, v reflect.Value) error {
		if !isEmpty(v) {
			return apierror.Refuse(at, why, way)
		}
		v.SetZero()
		return nil
	}
}

// drop is for what only answers have: clients send back what they once read.
func drop(_ *checking, _ string, v reflect.Value) error {
	v.SetZero()
	return nil
}

// clamp cuts a number down to a limit. Zero and below mean "no limit" to Docker, so they become the limit.
func clamp(limit func(Limits) int64) action {
	return func(p *checking, at string, v reflect.Value) error {
		most := limit(p.c.g.opts.Limits)
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
				p.warn(at + " is cut down to this runner's limit, " + strconv.FormatInt(most, 10))
			}
			v.SetInt(most)
		}
		return nil
	}
}

// oneOf is for a string of which only some values are known to be harmless.
func oneOf(why, way string, values ...string) action {
	return func(_ *checking, at string, v reflect.Value) error {
		for _, s := range values {
			if v.String() == s {
				return nil
			}
		}
		return apierror.Refuse(at+" "+apierror.Quote(v.String()), why, way)
	}
}

// sub judges a struct, or each struct of a list, by rules of its own.
func sub(rules []fieldRule) action {
	return func(p *checking, at string, v reflect.Value) error {
		switch v.Kind() {
		case reflect.Pointer:
			if v.IsNil() {
				return nil
			}
			return p.enforce(at, v.Elem(), rules)
		case reflect.Slice:
			for i := range v.Len() {
				e := v.Index(i)
				if e.Kind() == reflect.Pointer {
					if e.IsNil() {
						return apierror.BadRequest("%s[%d] is null", at, i)
					}
					e = e.Elem()
				}
				if err := p.enforce(at+"["+strconv.Itoa(i)+"]", e, rules); err != nil {
					return err
				}
			}
			return nil
		}
		return p.enforce(at, v, rules)
	}
}

// enforce applies rules to a struct, in their order, and then refuses what no rule names.
func (p *checking) enforce(at string, v reflect.Value, rules []fieldRule) error {
	t := v.Type()
	named := make(map[string]bool, len(rules))
	for _, r := range rules {
		named[r.field] = true
		f, ok := t.FieldByName(r.field)
		if !ok {
			continue
		}
		if err := r.do(p, placeOf(at, f), v.FieldByIndex(f.Index)); err != nil {
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

// placeOf is the full name of a field as it is in JSON, where embedded structs have none of their own.
func placeOf(at string, f reflect.StructField) string {
	name, ok := strictjson.FieldName(f)
	if !ok {
		return at
	}
	return join2(at, name)
}

func join2(at, field string) string {
	if at == "" {
		return field
	}
	return at + "." + field
}

// isEmpty tells whether a value asks for nothing.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	case reflect.Pointer:
		return v.IsNil() || isEmpty(v.Elem())
	}
	return v.IsZero()
}
