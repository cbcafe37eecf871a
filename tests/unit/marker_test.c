/* SPDX-License-Identifier: ISC */
/* unit-sources: image/build/marker.c */
/* Environment markers of Python requirements, on Python 3.11. */
#include "image/build/marker.h"

#include "tests/unit/tap.h"

static void out(const char *marker)
{
	ok(marker_excludes(marker, 11), "not for here: %s", marker);
}

static void in(const char *marker)
{
	ok(!marker_excludes(marker, 11), "for here: %s", marker);
}

int main(void)
{
	out("sys_platform == 'win32'");
	out(" python_version<\"3.11\"");
	out("python_version < '3'");
	out("python_full_version >= '3.12.1'");
	out("python_version == '2.7'");
	out("sys_platform != 'linux'");
	out("python_version >= '3' and platform_system == 'Windows'");
	out("sys_platform == 'win32' or sys_platform == 'darwin'");
	out("extra == 'test'");
	out("implementation_name == 'pypy'");
	in("python_version < '3.12'");
	in("python_version >= '3.8'");
	in("python_version == '3.11'");
	in("sys_platform != 'win32'");
	in("sys_platform == 'win32' or python_version > '3'");
	in("python_version > '3' and sys_platform == 'linux'");
	in("(sys_platform == 'win32')");
	in("something == 'new'");
	in("'linux' in sys_platform");
	in("");
	return done();
}
