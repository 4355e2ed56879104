"""What the commands of ``streams/cli.py`` do: one module for each group of them.

The command line (names, options, help) is in ``cli.py`` alone, and imports a module of this
package only when its command runs; so ``flowstate --help`` stays fast and these modules import
what they need at their top, as any other module does.
"""
