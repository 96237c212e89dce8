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

// Sensitive is text that prints, and encodes to JSON, as Redacted, so that no spec that somebody prints or stores gives it away. Convert it to
// string to use it.
type Sensitive string

// String is Redacted, whatever the value.
func (Sensitive) String() string { return Redacted }

// GoString is Redacted as well: %#v is no way around it.
func (Sensitive) GoString() string { return Redacted }

// MarshalText is Redacted, for JSON and every other encoder that asks.
func (Sensitive) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// Secrets are all values that no log of the run may show: those of every step, not only of the one that logs, since steps share a workspace.
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
