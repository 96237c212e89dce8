package spec

// Auth are credentials of one registry.
type Auth struct {
	Address  string    `json:"address,omitempty"`
	Username string    `json:"username,omitempty"`
	Password Sensitive `json:"password,omitempty"`
}

// Secret is a value that a step gets and no log shows.
type Secret struct {
	// Name as the pipeline's from_secret gives it.
	Name string `json:"name"`
	// Env is the variable that the step finds it in.
	Env  string    `json:"env"`
	Data Sensitive `json:"data"`
}

// Redacted stands in logs and JSON where a secret was.
const Redacted = "******"

// Sensitive is text that prints, and encodes to JSON, as Redacted, so that no spec that somebody
// prints or stores gives it away. Convert it to string to use it.
type Sensitive string

// String returns Redacted, or nothing where there is nothing to hide.
func (s Sensitive) String() string {
	if s == "" {
		return ""
	}
	return Redacted
}

// GoString returns the same: %#v is no way around it.
func (s Sensitive) GoString() string { return s.String() }

// MarshalText returns the same, for JSON and every other encoder that asks.
func (s Sensitive) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Secrets are all values that no log of the run may show: those of every step, not only of the one
// that logs, since steps share a workspace.
func (s *Spec) Secrets() []string {
	var out []string
	for _, m := range s.Masks {
		out = append(out, string(m))
	}
	for _, step := range s.Steps {
		for _, secret := range step.Secrets {
			out = append(out, string(secret.Data))
		}
		if step.Auth != nil {
			out = append(out, string(step.Auth.Password))
		}
	}
	return out
}
