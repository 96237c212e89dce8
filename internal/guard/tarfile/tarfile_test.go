package tarfile

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// tarOf makes an archive, of names and contents in turn.
func tarOf(t testing.TB, format tar.Format, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: files[i], Mode: 0o640, Uid: 7, Size: int64(len(files[i+1])), ModTime: time.Unix(1, 0), Format: format}
		if err := errors.Join(w.WriteHeader(h), second(w.Write([]byte(files[i+1])))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func second[T any](_ T, err error) error { return err }

// untar reads an archive as one who unpacks it would: the last file of a name counts.
func untar(t testing.TB, b []byte) map[string]string {
	t.Helper()
	out := map[string]string{}
	r := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out[h.Name] = string(text)
	}
}

// shout takes the file "names" out, and puts it in again in capitals.
var shout = Edit{
	Wanted: func(name string) bool { return name == "names" },
	Rest: func(taken []File) ([]File, error) {
		for i := range taken {
			taken[i].Data = bytes.ToUpper(taken[i].Data)
		}
		return append(taken, File{Name: "end", Data: []byte("end")}), nil
	},
}

func TestArchiveEdit(t *testing.T) {
	long := strings.Repeat("long/", 60) + "name"
	for _, format := range []tar.Format{tar.FormatUnknown, tar.FormatGNU, tar.FormatPAX} {
		for _, tt := range []struct {
			name        string
			files, want []string
		}{
			{"nothing", nil, []string{"end", "end"}},
			{"nothing to take", []string{"a", "1", "b", strings.Repeat("x", 513)}, []string{"a", "1", "b", strings.Repeat("x", 513), "end", "end"}},
			{"first", []string{"names", "n", "b", "2"}, []string{"b", "2", "names", "N", "end", "end"}},
			{"in the middle", []string{"a", strings.Repeat("y", 511), "names", strings.Repeat("n", 700), "b", ""}, []string{"a", strings.Repeat("y", 511), "b", "", "names", strings.Repeat("N", 700), "end", "end"}},
			{"last", []string{"a", strings.Repeat("y", 512), "names", "n"}, []string{"a", strings.Repeat("y", 512), "names", "N", "end", "end"}},
			{"only", []string{"names", ""}, []string{"names", "", "end", "end"}},
			{"long names", []string{long, "1", "names", "n", long + "2", "2"}, []string{long, "1", long + "2", "2", "names", "N", "end", "end"}},
			{"another spelling", []string{"x/../names", "n", "a", "1"}, []string{"a", "1", "x/../names", "N", "end", "end"}},
			{"two of them", []string{"names", "n", "a", "1", "names", "m"}, []string{"a", "1", "names", "N", "names", "M", "end", "end"}},
		} {
			t.Run(format.String()+" "+tt.name, func(t *testing.T) {
				var out bytes.Buffer
				if err := shout.Copy(bytes.NewReader(tarOf(t, format, tt.files...)), &out); err != nil {
					t.Fatal(err)
				}
				want := untar(t, tarOf(t, format, tt.want...))
				if got := untar(t, out.Bytes()); !maps.Equal(got, want) {
					t.Errorf("got %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
				}
			})
		}
	}
}

// TestArchiveStays: what isn't taken is the same byte by byte.
func TestArchiveStays(t *testing.T) {
	src := tarOf(t, tar.FormatPAX, "a", strings.Repeat("x", 1000), "b", "", "é", "2")
	var out bytes.Buffer
	edit := Edit{Wanted: func(string) bool { return false }, Rest: func([]File) ([]File, error) { return nil, nil }}
	if err := edit.Copy(bytes.NewReader(append(src, make([]byte, 8192)...)), &out); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), src) {
		t.Errorf("%d bytes became %d others", len(src), out.Len())
	}
}

func TestArchiveRefused(t *testing.T) {
	good := tarOf(t, tar.FormatUnknown, "a", strings.Repeat("x", 1000), "names", "n")
	link := func() []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := errors.Join(w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "names", Linkname: "a"}), w.Close()); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}()
	for _, tt := range []struct {
		name string
		src  []byte
		want string
	}{
		{"no archive", []byte(strings.Repeat("nonsense ", 100)), "can't be read"},
		{"cut in a file", good[:800], "breaks off"},
		{"cut in a header", good[:1900], "can't be read"},
		{"a link in its place", link, "no regular file"},
		{"more than is looked at", tarOf(t, tar.FormatUnknown, "names", strings.Repeat("x", Limit+1)), "no regular file of at most"},
		{"more in pieces", tarOf(t, tar.FormatUnknown, "names", strings.Repeat("x", Limit), "names", "y"), "no regular file of at most"},
		{"holes", sparseArchive(), "sparse"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			if err := shout.Copy(bytes.NewReader(tt.src), &out); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

// sparseArchive is a file with a terabyte of nothing, in GNU's old format.
func sparseArchive() []byte {
	b := make([]byte, 1536)
	copy(b, "hole")
	copy(b[100:], "0000644\x000000000\x000000000\x0000000000000\x0000000000000\x00")
	b[156] = 'S'
	copy(b[257:], "ustar  \x00")
	copy(b[386:], "20000000000\x0000000000000\x00") // a hole, up to its end
	copy(b[483:], "20000000000\x00")
	sum := 8 * int(' ')
	for i, c := range b[:512] {
		if i < 148 || i >= 156 {
			sum += int(c)
		}
	}
	for i := range 6 {
		b[148+5-i] = byte('0' + sum>>(3*i)&7)
	}
	b[154], b[155] = 0, ' '
	return b
}

func TestDecompress(t *testing.T) {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if err := errors.Join(second(w.Write([]byte("plain"))), w.Close()); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, in, want, fails string }{
		{"plain", "plain", "plain", ""},
		{"empty", "", "", ""},
		{"gzip", z.String(), "plain", ""},
		{"gzip that ends", "\x1f\x8b\x08", "", "can't be read"},
		{"zstd", "\x28\xb5\x2f\xfd0000", "", "zstd"},
		{"xz", "\xfd7zXZ\x00", "", "xz"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := decompress(strings.NewReader(tt.in))
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("got %v, want an error with %q", err, tt.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(r); err != nil || string(b) != tt.want {
				t.Errorf("got %q, %v", b, err)
			}
		})
	}
}

// FuzzArchive: whatever comes in, what goes out can be read to its end, is nothing that was to be
// taken out, and ends with what was put in.
func FuzzArchive(f *testing.F) {
	f.Add(tarOf(f, tar.FormatPAX, "a", "1", "names", "n", strings.Repeat("l", 200), "2"))
	f.Add(tarOf(f, tar.FormatGNU, "names", strings.Repeat("x", 600), "b", ""))
	f.Add(sparseArchive())
	f.Fuzz(func(t *testing.T, src []byte) {
		var out bytes.Buffer
		if shout.Copy(bytes.NewReader(src), &out) != nil {
			return
		}
		r := tar.NewReader(&out)
		last, all := "", true
		for {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("what comes out can't be read: %v", err)
			}
			b, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			if last = h.Name; strings.Trim(h.Name, "./") == "names" {
				all = all && bytes.Equal(b, bytes.ToUpper(b))
			}
		}
		if last != "end" || !all {
			t.Fatalf("the last file is %q; what was to be taken out was: %v", last, all)
		}
	})
}
