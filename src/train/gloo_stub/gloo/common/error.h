// Stand-in, see README.
#pragma once
