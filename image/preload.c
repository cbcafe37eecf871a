/* SPDX-License-Identifier: ISC */
/*
 * What runtimes load early in the start that apps share (prefix.c), because nearly every app loads it first thing: files in the layer of names of
 * the instance that makes such a start, and of those that go on from it; nowhere else.
 *
 * Python: a .pth file of dist-packages is read after the runtime's own modules and before the program. It imports what is there of a
 * list and takes it out of sys.modules again, so that a program sees nothing of it; when the program imports one of these modules, a finder
 * gives it, with all that its import would have brought. `random` gets a new seed at that moment. Where gevent or eventlet is installed, which
 * replace modules before others import them, nothing is loaded. What is there by then is no more looked at by the garbage
 * collector, which writes to each object when it does: pages that nobody writes to are shared by all instances.
 */
#include <string.h>

#include "image/prefix.h"

#define PYTHON_DIR "/usr/lib/python3/dist-packages"

static const char python[] =
	"import sys\n"
	"def load():\n"
	"    before = set(sys.modules)\n"
	"    for n in ('http.server', 'socketserver', 'json', 'threading', 'urllib.parse', 'urllib.request', "
	"'logging',\n"
	"              'datetime', 'random', 'hashlib', 'hmac', 'base64', 'uuid', 'inspect', 'dataclasses', "
	"'typing',\n"
	"              'tempfile', 'shutil', 'subprocess', 'traceback', 'argparse', 'string', 'mimetypes', "
	"'html',\n"
	"              'concurrent.futures', 'asyncio', 'secrets', 'platform', 'decimal', "
	"'wsgiref.simple_server',\n"
	"              'flask', 'bottle', 'django'):\n"
	"        try:\n"
	"            __import__(n)\n"
	"        except Exception:\n"
	"            pass\n"
	"    new = {k: m for k, m in sys.modules.items() if k not in before}\n"
	"    deps = {}\n"
	"    for k, m in new.items():\n"
	"        d = {k}\n"
	"        while '.' in k:\n"
	"            k = k.rpartition('.')[0]\n"
	"            d.add(k)\n"
	"        for v in list(vars(m).values()):\n"
	"            n = v.__name__ if type(v) is type(sys) else getattr(v, '__module__', None)\n"
	"            if type(n) is str and n in new:\n"
	"                d.add(n)\n"
	"        deps[m.__name__] = d\n"
	"    for k in new:\n"
	"        del sys.modules[k]\n"
	"    def give(k):\n"
	"        m = new.pop(k, None)\n"
	"        if m is None:\n"
	"            return\n"
	"        sys.modules[k] = m\n"
	"        if k == 'random':\n"
	"            m.seed()\n"
	"        for d in deps.get(k, ()):\n"
	"            give(d)\n"
	"    class Loader:\n"
	"        @staticmethod\n"
	"        def create_module(spec):\n"
	"            m = new[spec.name]\n"
	"            spec.loader_state = m.__spec__\n"
	"            return m\n"
	"        @staticmethod\n"
	"        def exec_module(m):\n"
	"            m.__spec__ = m.__spec__.loader_state\n"
	"            give(m.__name__)\n"
	"    class Finder:\n"
	"        @staticmethod\n"
	"        def find_spec(name, path=None, target=None):\n"
	"            m = new.get(name)\n"
	"            if m is None or m.__name__ != name:\n"
	"                return None\n"
	"            s = Spec(name, Loader)\n"
	"            if hasattr(m, '__path__'):\n"
	"                s.submodule_search_locations = m.__path__\n"
	"            return s\n"
	"    from importlib.machinery import ModuleSpec as Spec\n"
	"    sys.meta_path.insert(0, Finder)\n"
	"    import gc\n"
	"    gc.collect()\n"
	"    gc.freeze()\n"
	"load()\n"
	"del load\n";

static bool has(const struct overlay *o, const char *path)
{
	struct overlay_file f;

	return !overlay_lookup(o, path, &f);
}

void prefix_preload(struct tree *t, const struct overlay *o,
		    void (*dirs)(struct tree *t, const struct overlay *o, const char *dir))
{
	static const char pth[] = "import _cowbell_prefix\n";

	if (!has(o, PYTHON_DIR) || has(o, PYTHON_DIR "/gevent") || has(o, PYTHON_DIR "/eventlet"))
		return;
	dirs(t, o, PYTHON_DIR);
	tree_put_file(t, PYTHON_DIR "/zz-cowbell-prefix.pth", 0644, pth, sizeof(pth) - 1);
	tree_put_file(t, PYTHON_DIR "/_cowbell_prefix.py", 0644, python, sizeof(python) - 1);
}
